//! Waits with the report that a session is ready, if the session before it failed at once or with a message.

use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// A session that ends within this time after its subscription has failed at once. The next session is then reported
/// as ready only after it has lasted this long.
pub(super) const LASTS: Duration = Duration::from_secs(2);

/// Runs `session` to its end. Calls `passed` when it has lasted [`LASTS`] since `subscribed`, unless it is `ending`.
pub(super) async fn run<T>(
    session: impl Future<Output = T>,
    subscribed: &Notify,
    ending: &CancellationToken,
    passed: impl FnOnce(),
) -> T {
    let mut session = pin!(session);
    tokio::select! {
        biased;
        outcome = &mut session => outcome,
        () = end(subscribed, ending) => {
            passed();
            session.await
        }
    }
}

async fn end(subscribed: &Notify, ending: &CancellationToken) {
    subscribed.notified().await;
    sleep(LASTS).await;
    // A session that is already ending lasts only until its messages are settled, so it does not count.
    if ending.is_cancelled() {
        pending::<()>().await;
    }
}
