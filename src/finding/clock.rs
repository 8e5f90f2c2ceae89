//! Compares the clock of a server with that of this machine.

use super::{Finding, codes};

/// Clocks that keep their time by NTP differ by less, in milliseconds.
const MOST: u64 = 5_000;

/// Returns what follows from a difference: `ahead` is by how many milliseconds the clock of `who` is ahead of the one
/// here. A negative number is behind.
pub(crate) fn difference(who: &str, ahead: i64) -> Finding {
    let (seconds, side) = (ahead.unsigned_abs() / 1000, if ahead < 0 { "behind" } else { "ahead of" });
    let message = match seconds {
        0 => format!("the clock of {who} and the one here differ by less than a second"),
        seconds => format!("the clock of {who} is {seconds} s {side} the one here"),
    };
    if ahead.unsigned_abs() <= MOST {
        return Finding::detail(codes::CLOCK, message);
    }
    let message = format!(
        "{message}: the ages of events, and what is deleted by age, are wrong by that; let NTP set both clocks"
    );
    Finding::warning(codes::CLOCK_SKEW, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_difference_that_ntp_would_not_leave_is_a_warning() {
        for (ahead, is_warning, text) in [
            (0, false, "differ by less than a second"),
            (-4_999, false, "is 4 s behind the one here"),
            (5_001, true, "is 5 s ahead of the one here"),
            (i64::MIN, true, "behind the one here"),
        ] {
            let found = difference("it", ahead);
            assert_eq!(found.is_warning, is_warning, "{found}");
            assert!(found.message.contains(text), "{found}");
        }
    }
}
