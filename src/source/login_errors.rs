//! Tells an error with which a broker answers every login from one that passes by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::error::SourceError;

/// Since when the broker at each address has refused every attempt. A broker that starts or stops does so too,
/// but not for long.
#[derive(Debug, Default)]
pub(super) struct LoginErrors(BTreeMap<usize, Instant>);

impl LoginErrors {
    /// Takes the error of an attempt at `address`. Says in the error whether it lasts: whether every attempt
    /// was refused for longer than `patience`.
    pub(super) fn of(&mut self, error: SourceError, address: usize, patience: Duration) -> SourceError {
        match error {
            SourceError::Refused { message, .. } => {
                let since = *self.0.entry(address).or_insert_with(Instant::now);
                SourceError::Refused { message, lasts: since.elapsed() >= patience }
            }
            error => {
                self.0.remove(&address);
                error
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn an_error_at_every_login_needs_an_operator_after_a_while() {
        let mut errors = LoginErrors::default();
        let mut lasts = |address| {
            let error = errors.of(SourceError::refused("LDAP: error code 49".to_owned()), address, PATIENCE);
            error.needs_operator()
        };
        assert!(!lasts(0));
        tokio::time::advance(PATIENCE / 2).await;
        assert!(!lasts(0) && !lasts(1));
        tokio::time::advance(PATIENCE / 2).await;
        assert!(lasts(0));
        assert!(!lasts(1), "the other address began later");
        errors.of(SourceError::Closed("reset".to_owned()), 0, PATIENCE);
        let error = errors.of(SourceError::refused(String::new()), 0, PATIENCE);
        assert!(!error.needs_operator(), "another error came in between");
    }
}
