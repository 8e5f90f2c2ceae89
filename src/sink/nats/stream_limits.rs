//! Tells how much of a stream's limits is used.

use async_nats::jetstream::stream::{DiscardPolicy, Info};

use crate::display::one_line;
use crate::finding::{Finding, codes};

/// A stream that discards new messages gets a warning above this share of a limit, in percent.
const NEARLY_FULL: u64 = 80;

/// A limit that is set, and how much of it is used.
struct Limit {
    name: &'static str,
    used: u64,
    most: u64,
    text: String,
}

impl Limit {
    fn percent(&self) -> u64 {
        let percent = u128::from(self.used) * 100 / u128::from(self.most.max(1));
        u64::try_from(percent).unwrap_or(u64::MAX)
    }
}

/// Returns what is used of the limits, and a warning if the stream soon takes no more.
pub(super) fn findings(info: &Info) -> Vec<Finding> {
    let (config, limits) = (&info.config, limits(info));
    let name = &config.name;
    let mut texts: Vec<String> = limits
        .iter()
        .map(|limit| format!("{} ({}, {} %)", limit.text, limit.name, limit.percent()))
        .collect();
    if !config.max_age.is_zero() {
        texts.push(format!("at most {} old (max_age)", humantime::format_duration(config.max_age)));
    }
    let discards_new = config.discard == DiscardPolicy::New;
    let message = match texts.as_slice() {
        [] => format!("stream {name} has no limits of its own (max_msgs, max_bytes, max_age)"),
        texts => {
            let gives_way = if discards_new { "new" } else { "old" };
            format!("stream {name} holds {}; it discards {gives_way} events at a limit", texts.join(", "))
        }
    };
    let mut found = vec![Finding::detail(codes::NATS_STREAM_LIMITS, message)];
    let nearly_full = limits.iter().filter(|limit| discards_new && limit.percent() > NEARLY_FULL);
    found.extend(nearly_full.max_by_key(|limit| limit.percent()).map(|limit| {
        let message = format!(
            "stream {name} has used {} % of its {}, and takes no event once it is full: raise {}, or remove what its \
             consumers have read",
            limit.percent(),
            limit.name,
            limit.name
        );
        Finding::warning(codes::NATS_STREAM_NEARLY_FULL, message)
    }));
    found.extend(consumers(info));
    found.extend(replica_away(info));
    found
}

/// Returns a warning if the stream has as many consumers as it may have. The sink makes one to read the newest events.
fn consumers(info: &Info) -> Option<Finding> {
    let (name, count) = (&info.config.name, info.state.consumer_count);
    let most = usize::try_from(info.config.max_consumers).ok().filter(|most| *most > 0)?;
    let message = || {
        format!(
            "stream {name} has {count} of at most {most} consumers (max_consumers): the sink can't make the one by which \
             it reads the newest events after a crash, and events can come twice; raise the limit or remove a consumer"
        )
    };
    (count >= most).then(|| Finding::warning(codes::NATS_NO_CONSUMER_LEFT, message()))
}

/// Returns a warning if a replica is not up to date.
fn replica_away(info: &Info) -> Option<Finding> {
    let replicas = info.cluster.as_ref().map_or(&[][..], |cluster| &cluster.replicas);
    let away = replicas.iter().find(|replica| replica.offline || !replica.current)?;
    let message = format!(
        "the replica of stream {} at {} is not up to date: one more failure may stop the writing; see that every server \
         of the cluster runs",
        info.config.name,
        one_line(&away.name)
    );
    Some(Finding::warning(codes::NATS_REPLICA_AWAY, message))
}

fn limits(info: &Info) -> Vec<Limit> {
    let (config, state) = (&info.config, &info.state);
    let positive = |limit: i64| u64::try_from(limit).ok().filter(|limit| *limit > 0);
    let events = positive(config.max_messages).map(|most| Limit {
        name: "max_msgs",
        used: state.messages,
        most,
        text: format!("{} of {most} events", state.messages),
    });
    let bytes = positive(config.max_bytes).map(|most| Limit {
        name: "max_bytes",
        used: state.bytes,
        most,
        text: format!("{} of {most} bytes", state.bytes),
    });
    events.into_iter().chain(bytes).collect()
}
