//! Mistakes about AtData's broker.

use super::{Planted, planted};
use crate::support::bridge::Setup;
use crate::support::broker::{Protocol, Version, shared_if_available};
use crate::support::scenario::place;

planted!("source": nothing_listens);

async fn nothing_listens(id: &str) {
    let Some(broker) = shared_if_available(Version::V6, id) else { return };
    let (namespace, _) = &place(Protocol::Stomp, id);
    let setup = Setup::new(broker, Protocol::Stomp, namespace, "main", namespace)
        .set("SOURCE__URL", "stomp://127.0.0.1:1");
    Planted::new(setup).shows(id).await;
}
