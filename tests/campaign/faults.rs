//! Carries out the faults of a plan.

use std::sync::Arc;
use std::time::Duration;

use kit::disk::Ballast;
use kit::proxy::{Direction, Proxy, Slow};
use tokio::time::sleep;

use crate::plan::{Fault, Kind, Target};
use crate::watch::Watch;
use crate::world::{NAME, World, blocking};

/// The time between two servers of a cluster that are restarted in turn.
const BETWEEN: Duration = Duration::from_secs(3);
/// The oldest timestamps that a topic takes, in milliseconds. The markers of transactions must be younger: where a topic
/// refuses one, Kafka 4.4 never ends the transaction, and no producer can go on with its id
/// (`TransactionMarkerRequestCompletionHandler` throws). With 1 ms that happened.
const OLDEST: u64 = 2000;
/// How long a bridge may take to be ready, when all are restarted in turn. The next one is restarted all the same.
const READY: Duration = Duration::from_secs(30);
/// In seconds. Kafka refuses timestamps that are more than an hour ahead of its own clock.
const CLOCK_STEP: i64 = 2 * 3600;
/// How much longer a sync takes on a slow disk.
const SLOW_SYNC: Duration = Duration::from_millis(700);

/// Begins a fault when its time has come, and ends it.
pub async fn carry_out(world: Arc<World>, watch: Arc<Watch>, fault: Fault) -> Result<(), String> {
    sleep(Duration::from_millis(fault.after)).await;
    watch.begun(fault.target);
    let hold = Duration::from_millis(fault.hold);
    match fault.target {
        Target::Replica(replica) => bridge(&world, replica, fault.kind, hold).await,
        Target::Topic => {
            topic(&world, fault.kind, hold).await;
            Ok(())
        }
        Target::Stream => {
            uncovered(&world, hold).await;
            Ok(())
        }
        Target::Broker => {
            broker(&world, fault.kind, hold).await;
            Ok(())
        }
        Target::Kafka(node) => {
            kafka(&world, node, fault.kind, hold).await;
            Ok(())
        }
        Target::Nats(server) => {
            nats(&world, server, fault.kind, hold).await;
            Ok(())
        }
        Target::ToBroker(replica) => {
            link(&[&world.replicas[replica].to_broker], fault.kind, hold).await;
            Ok(())
        }
        Target::ToKafka(node) => {
            link(&[&world.to_kafka[node]], fault.kind, hold).await;
            Ok(())
        }
        Target::ToNats(replica) => {
            let proxies: Vec<_> = world.replicas[replica].to_nats.iter().collect();
            link(&proxies, fault.kind, hold).await;
            Ok(())
        }
        Target::Disk(replica) => {
            disk(&world, replica, fault.kind, hold).await;
            Ok(())
        }
        Target::Clock(replica) => {
            let preload = &world.replicas[replica].preload;
            preload.move_clock(if fault.kind == Kind::Ahead { CLOCK_STEP } else { -CLOCK_STEP });
            sleep(hold).await;
            preload.move_clock(0);
            Ok(())
        }
        Target::AllReplicas => roll(&world, &watch, fault.kind == Kind::Upgrade).await,
        Target::AllKafka => {
            for node in 0..world.kafka.len() {
                kafka(&world, node, Kind::Stop, Duration::ZERO).await;
                sleep(BETWEEN).await;
            }
            Ok(())
        }
        Target::AllNats if fault.kind == Kind::Leader => step_down(&world).await,
        Target::AllNats => {
            for server in 0..world.nats.len() {
                nats(&world, server, Kind::Stop, Duration::ZERO).await;
                sleep(BETWEEN).await;
            }
            Ok(())
        }
    }
}

async fn bridge(world: &World, number: usize, kind: Kind, hold: Duration) -> Result<(), String> {
    let replica = &world.replicas[number];
    match kind {
        Kind::Kill => replica.kill().await?,
        Kind::Stop => drop(replica.stop().await?),
        _ => {
            replica.freeze(true).await?;
            sleep(hold).await;
            return replica.freeze(false).await;
        }
    }
    sleep(hold).await;
    replica.start().await;
    Ok(())
}

async fn roll(world: &World, watch: &Watch, is_upgrade: bool) -> Result<(), String> {
    for (number, replica) in world.replicas.iter().enumerate() {
        replica.stop().await?;
        if is_upgrade {
            replica.change_build();
        }
        let began = tokio::time::Instant::now();
        replica.start().await;
        while !watch.is_ready(number, began.into_std()) && began.elapsed() < READY {
            sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

async fn broker(world: &Arc<World>, kind: Kind, hold: Duration) {
    let begin = move |world: &World| {
        world.change_broker(false, |broker| match kind {
            Kind::Kill => broker.kill(),
            Kind::Stop => broker.stop(),
            Kind::Certificates => {
                broker.stop();
                broker.renew_certificates();
            }
            _ => broker.freeze(),
        });
    };
    blocking(world, begin).await;
    sleep(hold).await;
    let end = move |world: &World| {
        world
            .change_broker(true, |broker| if kind == Kind::Pause { broker.thaw() } else { broker.restart() });
    };
    blocking(world, end).await;
}

async fn kafka(world: &Arc<World>, number: usize, kind: Kind, hold: Duration) {
    let begin = move |world: &World| match kind {
        Kind::Kill => world.kafka[number].kill(),
        Kind::Stop => world.kafka[number].stop(),
        _ => world.kafka[number].freeze(),
    };
    blocking(world, begin).await;
    sleep(hold).await;
    let end = move |world: &World| {
        let node = &world.kafka[number];
        if kind == Kind::Pause { node.thaw() } else { node.restart() }
    };
    blocking(world, end).await;
}

async fn nats(world: &Arc<World>, number: usize, kind: Kind, hold: Duration) {
    let begin = move |world: &World| match kind {
        Kind::Kill => world.nats[number].kill(),
        Kind::Stop => world.nats[number].stop(),
        _ => world.nats[number].freeze(),
    };
    blocking(world, begin).await;
    sleep(hold).await;
    let end = move |world: &World| {
        let server = &world.nats[number];
        if kind == Kind::Pause { server.thaw() } else { server.restart() }
    };
    blocking(world, end).await;
}

/// Asks the leader of the stream to hand over to another server.
async fn step_down(world: &World) -> Result<(), String> {
    let request = format!("STREAM.LEADER.STEPDOWN.{NAME}");
    let answer: Result<serde_json::Value, _> = world.jetstream().await.request(request, &()).await;
    answer.map(drop).map_err(|error| format!("no leader steps down: {error}"))
}

/// Disturbs the connections through these proxies, and ends that.
async fn link(proxies: &[&Proxy], kind: Kind, hold: Duration) {
    let each = |change: &dyn Fn(&Proxy)| proxies.iter().for_each(|proxy| change(proxy));
    let slow = match kind {
        Kind::Delay => Slow { delay: Duration::from_millis(250), bytes_per_second: None },
        _ => Slow { delay: Duration::ZERO, bytes_per_second: Some(20_000) },
    };
    each(&|proxy| match kind {
        Kind::Cut => proxy.cut(),
        Kind::HalfOpen => proxy.half_close(),
        Kind::Silence => proxy.silence(),
        Kind::OneWayOut => proxy.silence_one_way(Direction::ToTarget),
        Kind::OneWayIn => proxy.silence_one_way(Direction::ToClient),
        _ => proxy.slow(slow),
    });
    sleep(hold).await;
    each(&|proxy| {
        proxy.resume();
        proxy.slow(Slow::default());
    });
}

async fn topic(world: &Arc<World>, kind: Kind, hold: Duration) {
    let begin = move |world: &World| match kind {
        Kind::Rights => world.forbid_writing(),
        Kind::Limit => world.kafka[0].configure_topic(NAME, "max.message.bytes=2000"),
        _ => world.kafka[0].configure_topic(NAME, &format!("message.timestamp.before.max.ms={OLDEST}")),
    };
    blocking(world, begin).await;
    sleep(hold).await;
    let end = move |world: &World| match kind {
        Kind::Rights => world.set_rights(),
        Kind::Limit => world.kafka[0].configure_topic(NAME, "max.message.bytes=1048588"),
        _ => world.kafka[0].configure_topic(NAME, &format!("message.timestamp.before.max.ms={}", i64::MAX)),
    };
    blocking(world, end).await;
}

async fn uncovered(world: &World, hold: Duration) {
    world.change_stream("elsewhere.>").await;
    sleep(hold).await;
    world.change_stream(&world.subjects()).await;
}

async fn disk(world: &Arc<World>, number: usize, kind: Kind, hold: Duration) {
    let begin = move |world: &World| {
        let replica = &world.replicas[number];
        let disk = replica.setup.disk().expect("a disk");
        match kind {
            Kind::Full => return Some(Ballast::fill(&disk.path())),
            Kind::ReadOnly => disk.forbid_changes(),
            _ => replica.preload.slow_syncs(SLOW_SYNC),
        }
        None
    };
    let ballast = blocking(world, begin).await;
    sleep(hold).await;
    if let Some(ballast) = ballast {
        return ballast.remove();
    }
    let end = move |world: &World| {
        let replica = &world.replicas[number];
        match kind {
            Kind::ReadOnly => replica.setup.disk().expect("a disk").allow_changes(),
            _ => replica.preload.slow_syncs(Duration::ZERO),
        }
    };
    blocking(world, end).await;
}
