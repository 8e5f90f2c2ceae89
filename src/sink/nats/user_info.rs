//! Asks the server what the user of the connection may do, and how long its login is valid.

use std::time::Duration;

use async_nats::Client;
use serde::Deserialize;
use tokio::time::timeout;

use super::subject_match;
use super::template::Subject;

/// The subject at which a server tells a user about itself, from nats-server 2.9 on.
const ASKED: &str = "$SYS.REQ.USER.INFO";

#[derive(Deserialize)]
struct UserInfoResponse {
    data: UserInfo,
}

/// What the server tells about a user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct UserInfo {
    #[serde(default)]
    permissions: Option<Permissions>,
    /// How long the login is still valid, in nanoseconds; `None` if it has no end.
    #[serde(default)]
    expires: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Permissions {
    #[serde(default)]
    publish: Option<Rules>,
}

/// Patterns of the subjects to which a user may, or may not, publish.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Rules {
    /// Everything is allowed if there are none.
    #[serde(default)]
    allow: Option<Vec<String>>,
    #[serde(default)]
    deny: Option<Vec<String>>,
}

impl UserInfo {
    /// Asks over a connection that need not survive: a user that may not ask gets an error that ends it. Returns `None`
    /// without an answer.
    pub(super) async fn ask(client: &Client, within: Duration) -> Option<Self> {
        let answer = timeout(within, client.request(ASKED, "".into())).await.ok()?.ok()?;
        serde_json::from_slice::<UserInfoResponse>(&answer.payload).ok().map(|answer| answer.data)
    }

    /// Returns how long the login is still valid, if it has an end.
    pub(super) fn expires_in(&self) -> Option<Duration> {
        self.expires.filter(|left| *left > 0).map(Duration::from_nanos)
    }

    /// Returns whether the user may publish to every subject that events can have.
    pub(super) fn may_publish(&self, subject: &Subject) -> bool {
        self.allows(
            |allow| subject_match::covers(allow, subject),
            |deny| subject_match::meets(deny, &subject.tokens(None)),
        )
    }

    /// Returns whether the user may publish to `subject`, in which a `*` stands for anything.
    pub(super) fn may_request(&self, subject: &str) -> bool {
        let tokens: Vec<Option<String>> =
            subject.split('.').map(|token| (token != "*").then(|| token.to_owned())).collect();
        self.allows(|allow| subject_match::takes(allow, &tokens), |deny| subject_match::meets(deny, &tokens))
    }

    fn allows(
        &self,
        is_allowed: impl FnOnce(&[String]) -> bool,
        is_denied: impl FnOnce(&[String]) -> bool,
    ) -> bool {
        let Some(rules) = self.permissions.as_ref().and_then(|permissions| permissions.publish.as_ref())
        else {
            return true;
        };
        let allow = rules.allow.as_deref().unwrap_or_default();
        let deny = rules.deny.as_deref().unwrap_or_default();
        (allow.is_empty() || is_allowed(allow)) && !is_denied(deny)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::nats::explain::testing::explainer;

    fn info(data: &str) -> UserInfo {
        serde_json::from_str::<UserInfoResponse>(&format!(r#"{{"server":{{}},"data":{data}}}"#)).unwrap().data
    }

    #[test]
    fn a_rule_allows_only_what_it_covers_and_denies_all_that_it_meets() {
        for (rules, allowed) in [
            ("{}", true),
            (r#"{"permissions":{}}"#, true),
            (r#"{"permissions":{"publish":{"deny":["x.>"]}}}"#, true),
            (r#"{"permissions":{"publish":{"allow":["e.>"]}}}"#, true),
            (r#"{"permissions":{"publish":{"allow":["e.acme.0"]}}}"#, false),
            (r#"{"permissions":{"publish":{"allow":["$JS.API.>"]}}}"#, false),
            (r#"{"permissions":{"publish":{"allow":["e.>"],"deny":["e.acme.0"]}}}"#, false),
        ] {
            assert_eq!(
                info(rules).may_publish(explainer("e.{namespace}.{key}").subject()),
                allowed,
                "{rules}"
            );
        }
        let narrow = info(r#"{"permissions":{"publish":{"allow":["$JS.API.CONSUMER.MSG.NEXT.E.*"]}}}"#);
        assert!(narrow.may_request("$JS.API.CONSUMER.MSG.NEXT.E.*"));
        assert!(!narrow.may_request("$JS.API.CONSUMER.CREATE.E.*"));
    }

    #[test]
    fn a_login_without_an_end_has_none() {
        assert_eq!(info("{}").expires_in(), None);
        assert_eq!(info(r#"{"expires":0}"#).expires_in(), None);
        assert_eq!(info(r#"{"expires":3000000000}"#).expires_in(), Some(Duration::from_secs(3)));
    }
}
