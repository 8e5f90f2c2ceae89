//! Checks the addresses of the brokers for the verb `check`: those in the configuration, and those that the brokers
//! advertise. A running sink needs only those of the leaders, and any one of the configured.

use futures_util::future::join_all;

use super::diagnosis::{Diagnosis, at_advertised};
use super::names::Names;
use super::settings::KafkaSettings;
use super::topic::Topic;
use crate::finding::{Finding, codes};

/// Returns a warning for each address that will not help when it is needed.
pub(super) async fn findings(
    settings: &KafkaSettings,
    names: &Names,
    topic: &Topic,
    diagnosis: &Diagnosis,
) -> Vec<Finding> {
    let configured: Vec<&str> = settings.client.brokers().split(',').collect();
    let mut found: Vec<Finding> = one_bootstrap(&configured, names, topic).into_iter().collect();
    if configured.len() > 1 {
        let tried = join_all(configured.iter().map(|address| diagnosis.at(address))).await;
        found.extend(tried.into_iter().flatten().map(|why| {
            let message = format!("one of the addresses in {} is of no use: {why}", names.option("brokers"));
            Finding::warning(codes::KAFKA_BOOTSTRAP_ADDRESS, message)
        }));
    }
    let tried = join_all(topic.followers.iter().map(|(id, address)| async move {
        let why = diagnosis.at(address).await?;
        Some(at_advertised(*id, address, &why.to_string()))
    }));
    found.extend(tried.await.into_iter().flatten().map(|told| {
        let message = format!("{told}; once it leads a partition, the sink waits for it");
        Finding::warning(codes::KAFKA_ADVERTISED_ADDRESS, message)
    }));
    found
}

/// Returns a warning if the bridge can begin only while one certain broker runs. An address that no broker advertises is
/// that of a load balancer or a name for all of them.
fn one_bootstrap(configured: &[&str], names: &Names, topic: &Topic) -> Option<Finding> {
    let [only] = configured else { return None };
    let others: Vec<&str> =
        topic.advertised.iter().map(String::as_str).filter(|address| address != only).collect();
    if others.is_empty() || others.len() == topic.advertised.len() {
        return None;
    }
    let message = format!(
        "{} names one of {} brokers, and the bridge can't begin while that one is away: add {}",
        names.option("brokers"),
        topic.advertised.len(),
        others.join(", ")
    );
    Some(Finding::warning(codes::KAFKA_ONE_BOOTSTRAP, message))
}
