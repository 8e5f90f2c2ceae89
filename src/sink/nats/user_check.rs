//! Checks for the verb `check` what the user and its account may do, and compares the clocks. Each question goes over a
//! connection of its own: a question that the user may not ask ends its connection.

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::response::Response;
use jiff::Timestamp;
use serde::Deserialize;

use super::claim::doubles;
use super::opener::NatsSink;
use super::user_info::UserInfo;
use crate::finding::{Finding, clock, codes};
use crate::sink::SinkError;

/// A login that is valid for less gets a warning.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);
/// An account that has used more of its storage gets a warning, in percent.
const NEARLY_FULL: u64 = 80;

/// The part of the answer about a stream that tells the time of the server.
#[derive(Deserialize)]
struct Time {
    ts: Timestamp,
}

/// Returns what is known about the user.
///
/// # Errors
/// The user may not publish the events.
pub(super) async fn of_user(sink: &NatsSink) -> Result<Vec<Finding>, SinkError> {
    let within = sink.settings.timeout;
    let Some(info) = beside(sink, async |client| UserInfo::ask(&client, within).await).await else {
        let message = "not known what this user may do: the server does not tell it ($SYS.REQ.USER.INFO)";
        return Ok(vec![Finding::detail(codes::NATS_RIGHTS_NOT_KNOWN, message)]);
    };
    if !info.may_publish(sink.explainer.subject()) {
        return Err(sink.explainer.may_not_publish_events());
    }
    Ok(may_read(sink, &info).into_iter().chain(info.expires_in().map(expiry)).collect())
}

/// Returns what is known about the account and about the clock of the stream's leader.
pub(super) async fn of_jetstream(sink: &NatsSink, stream: &str) -> Vec<Finding> {
    let account = beside(sink, async |client| sink.jetstream(client).query_account().await.ok()).await;
    let account = account.and_then(|account| {
        let most = u64::try_from(account.limits.max_storage?).ok()?;
        nearly_full(account.storage, most)
    });
    let time = beside(sink, async |client| ahead(sink, client, stream).await).await;
    let clock = match time {
        Some(ahead) => clock::difference("nats-server", ahead),
        None => {
            let message = "not known whether the clocks agree: this nats-server does not tell its time";
            Finding::detail(codes::CLOCK_NOT_KNOWN, message)
        }
    };
    account.into_iter().chain([clock]).collect()
}

/// Asks over a connection that may end at the question.
async fn beside<T>(sink: &NatsSink, ask: impl AsyncFnOnce(Client) -> Option<T>) -> Option<T> {
    let mut connection = sink.connect_beside().await.ok()?;
    let client = connection.client.clone();
    connection.unless_broken(async { Ok(ask(client).await) }).await.ok().flatten()
}

/// Returns by how many milliseconds the clock of the leader is ahead; it is read between two looks at the clock here.
async fn ahead(sink: &NatsSink, client: Client, stream: &str) -> Option<i64> {
    let before = Timestamp::now();
    let subject = format!("STREAM.INFO.{stream}");
    let Response::Ok(Time { ts }) = sink.jetstream(client).request(subject, &()).await.ok()? else {
        return None;
    };
    let (before, after) = (before.as_millisecond(), Timestamp::now().as_millisecond());
    let theirs = ts.as_millisecond();
    Some(theirs - theirs.clamp(before, after.max(before)))
}

fn nearly_full(used: u64, most: u64) -> Option<Finding> {
    let percent = u128::from(used) * 100 / u128::from(most.max(1));
    (percent > u128::from(NEARLY_FULL)).then(|| {
        let message = format!(
            "the account has used {percent} % of its JetStream storage ({used} of {most} bytes), and takes no event once \
             it is full: raise its limit, or remove what has been read"
        );
        Finding::warning(codes::NATS_ACCOUNT_NEARLY_FULL, message)
    })
}

/// Returns a warning if the user may not read the newest messages.
fn may_read(sink: &NatsSink, info: &UserInfo) -> Option<Finding> {
    let stream = sink.settings.stream.as_deref()?;
    let api = match &sink.settings.domain {
        Some(domain) => format!("$JS.{domain}.API"),
        None => "$JS.API".to_owned(),
    };
    let wanted = ["CREATE", "MSG.NEXT"].map(|request| format!("{api}.CONSUMER.{request}.{stream}.*"));
    let denied = wanted.iter().find(|request| !info.may_request(request))?;
    let request = denied.strip_prefix(&format!("{api}.CONSUMER."))?;
    let why = sink.explainer.may_not_read(&api, request).to_string();
    Some(Finding::warning(codes::NATS_TAIL_DENIED, doubles(stream, &why)))
}

fn expiry(left: Duration) -> Finding {
    let hours = left.as_secs() / 3600;
    let message = format!("the login is valid for {} days and {} hours more", hours / 24, hours % 24);
    if left >= SOON {
        return Finding::detail(codes::NATS_LOGIN_EXPIRES, message);
    }
    let message = format!("{message}: renew it");
    Finding::warning(codes::NATS_LOGIN_EXPIRES_SOON, message)
}
