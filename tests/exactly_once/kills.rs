//! Kills one bridge with three sinks again and again, in rounds, and prints what each sink then has.

use std::time::{Duration, Instant};

use fastrand::Rng;
use kit::any_kafka::AnyKafka;
use kit::broker::Version;
use kit::nats::NatsServer;

use crate::findings::Finding;
use crate::round::{PREFETCH, Round};

/// How often the bridge is killed, and when.
pub struct Kills {
    pub kills: u64,
    /// How many kills come before an audit.
    pub round: u64,
    /// The longest time from a start to the kill.
    pub longest: Duration,
}

impl Kills {
    /// Runs all rounds, with the brokers in turn. Prints the results and returns the broken promises.
    pub async fn run(
        &self,
        brokers: &[Version],
        (kafka, nats): (&AnyKafka, &NatsServer),
        seed: u64,
    ) -> Vec<String> {
        let mut random = Rng::with_seed(seed);
        let mut rounds = Vec::new();
        let (mut left, began) = (self.kills, Instant::now());
        for (number, &version) in (1..).zip(brokers.iter().cycle()) {
            if left == 0 {
                break;
            }
            let kills = self.round.min(left);
            left -= kills;
            let round = Round { number, version, kills, longest: self.longest };
            rounds.push(round.run(kafka, nats, &mut random).await);
        }
        self.print(&rounds, began.elapsed());
        Finding::sum(&rounds).broken_promises()
    }

    fn print(&self, rounds: &[Finding], took: Duration) {
        println!("\n## {} kills of one bridge with three sinks\n", self.kills);
        println!(
            "SIGKILL between 0 and {} ms after the start, with {PREFETCH} events in flight at most; the first start \
             of a round reads over STOMP, the next one over OpenWire, and so on in turn. In {:.0} s.",
            self.longest.as_millis(),
            took.as_secs_f64()
        );
        println!("\n### Each sink\n\n{}", Finding::sum(rounds).by_sink());
        println!("### Each round\n\n{}", Finding::by_round(rounds));
    }
}
