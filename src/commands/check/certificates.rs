//! Tells when the certificates expire that the checked connections have shown.

use jiff::Timestamp;

use crate::finding::{Finding, codes};
use crate::tls::Expiry;

const DAY: u64 = 24 * 60 * 60;
/// A certificate that is valid for less than this gets a warning, in seconds.
const SOON: u64 = 14 * DAY;

/// Returns a finding for each certificate, with the table of the TLS options and the host that has shown it;
/// an empty host stands for the bridge itself. `now` is in seconds since 1970.
pub(super) fn findings(shown: &[(String, String, Expiry)], now: u64) -> Vec<Finding> {
    let finding = |(table, host, Expiry { subject, not_after }): &(String, String, Expiry)| {
        let owner = if host.is_empty() { "the bridge" } else { host };
        let (left, date) = (not_after.saturating_sub(now), date(*not_after));
        let when = match left {
            0 => format!("has expired on {date}"),
            left => format!("expires on {date}, in {} days", left / DAY),
        };
        let message = format!("the certificate {subject} of {owner} ({table}) {when}");
        if left >= SOON {
            return Finding::detail(codes::CERTIFICATE, message);
        }
        Finding::warning(codes::CERTIFICATE_EXPIRES_SOON, format!("{message}: renew it"))
    };
    shown.iter().map(finding).collect()
}

fn date(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX).strftime("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_expires_within_two_weeks_is_a_warning() {
        let now = 1_700_000_000;
        let shown = |host: &str, days: u64| {
            let expiry = Expiry { subject: "CN=broker".to_owned(), not_after: now + days * DAY };
            ("source.tls".to_owned(), host.to_owned(), expiry)
        };
        let found = findings(&[shown("broker.example.com", 14), shown("", 13)], now);
        let expected =
            "the certificate CN=broker of broker.example.com (source.tls) expires on 2023-11-28, in 14 days";
        assert_eq!(found[0].to_string(), expected);
        let expected = "warning: the certificate CN=broker of the bridge (source.tls) expires on 2023-11-27, in 13 days: renew it";
        assert_eq!(found[1].to_string(), expected);
        let past = findings(&[shown("", 0)], now + 1);
        assert!(
            past[0].is_warning && past[0].message.ends_with("has expired on 2023-11-14: renew it"),
            "{past:?}"
        );
    }
}
