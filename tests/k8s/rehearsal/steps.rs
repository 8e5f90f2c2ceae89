//! Runs the steps of the rehearsal in their order, with the checks of each step.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Mode;
use crate::audit::{Audit, COLUMNS};
use crate::load::Load;
use crate::node::Node;
use crate::servers::{PREFETCH, Servers, queue};
use crate::set::{Replaced, StatefulSet};
use kit::events::Events;
use kit::output::each_line;
use kit::scenario::{counts, emptied};
use kit::{SOON, wait_until};

const REPLICAS: usize = 3;
const MORE: usize = 5;
/// The pod drained: everything that it had taken is settled and acknowledged.
const DRAINED: Option<i32> = Some(0);
/// The pod stopped before everything was settled, for example because a sink is held.
const ABANDONED: Option<i32> = Some(75);
const MISSING_TOPIC: &str = "there-is-no-such-topic";

const WHY_SHARED: &str = "In files, allowed are `prefetch` events (200) for the unready pod, whose files hold what it had \
    taken while Kafka could settle nothing, and as many for the killed one, which may not have acknowledged what was \
    durable. Other pods get both again, and find them in Kafka and in the stream, but not in each other's files.";
const WHY_STRICT: &str = "In files, allowed are `prefetch` events (200) for the killed pod, which may not have acknowledged what \
    was durable. The next one gets them again, and finds them in Kafka and in the stream, but not in the other's files. \
    The unready one stood by.";

/// Runs all steps in one mode. Prints the observations; panics if a check fails.
pub async fn rehearse(servers: &Servers, mode: Mode, rate: u64) {
    servers.make_topic_and_stream(mode).await;
    let node = Node::new(servers.secrets());
    let set = StatefulSet::new(&node, &servers.values(mode, REPLICAS));
    let mut rehearsal = Rehearsal { servers, node: &node, mode, rate, set, published: 0 };
    let exactly_once = if mode.exactly_once() { ", `exactly_once = true`" } else { "" };
    println!("\n## `ordering = \"{}\"`{exactly_once}\n", mode.ordering());
    println!("| step | took | seen |\n|---|---:|---|");
    let load = rehearsal.install().await;
    rehearsal.roll(&load).await;
    rehearsal.scale_up(&load).await;
    rehearsal.scale_down().await;
    rehearsal.pause(load).await;
    let clean = rehearsal.audits().await;

    let load = rehearsal.resume_load().await;
    rehearsal.replace_an_unready_one().await;
    rehearsal.replace_a_frozen_one(&load).await;
    rehearsal.pause(load).await;
    rehearsal.stop().await;
    let troubled = rehearsal.audits().await;
    rehearsal.assert_audits(&clean, &troubled);
}

struct Rehearsal<'a> {
    servers: &'a Servers,
    node: &'a Node,
    mode: Mode,
    rate: u64,
    set: StatefulSet<'a>,
    /// The number of events, after the load has stopped.
    published: u64,
}

impl Rehearsal<'_> {
    fn shared(&self) -> bool {
        self.mode == Mode::Shared
    }

    async fn install(&mut self) -> Load {
        let took = self.set.scale_up(REPLICAS).await;
        row("install: three at once", took, "all ready");
        let begun = Instant::now();
        let (code, output) = self.set.test().await;
        assert!(code == Some(0) && !output.contains("FAILED"), "helm test ended with {code:?}\n{output}");
        row("`helm test`", begun.elapsed(), "`check` found the broker and every sink");
        let load = Load::start(&self.servers.broker, self.mode.name(), self.rate, 0).await;
        self.report_active_pods("load begins").await;
        load
    }

    /// Does a rolling update: the pod with the highest ordinal first, the next one when that is ready again.
    async fn roll(&mut self, load: &Load) {
        self.set.apply(&self.upgraded());
        for ordinal in (0..REPLICAS).rev() {
            let before = load.published();
            let Replaced { code, stopped, ready } = self.set.replace(ordinal).await;
            assert_eq!(code, DRAINED, "pod {ordinal} did not drain");
            assert!(load.published() > before, "there was no load");
            let seen = format!("drained, exit code 0, in {}; ready again in {}", ms(stopped), ms(ready));
            row(&format!("rolling update: pod {ordinal}"), stopped + ready, &seen);
        }
        self.report_active_pods("after the rolling update").await;
    }

    async fn scale_up(&mut self, load: &Load) {
        let before = load.published();
        let took = self.set.scale_up(MORE).await;
        assert!(load.published() > before, "there was no load");
        row("scale to five: two more at once", took, "both ready");
        self.report_active_pods("with five").await;
    }

    async fn scale_down(&mut self) {
        let (codes, took) = self.set.scale_down(1).await;
        assert!(codes.iter().all(|code| *code == DRAINED), "not all drained: {codes:?}");
        row("scale to one: four stop at once", took, "all drained, exit code 0");
        self.report_active_pods("with one").await;
    }

    fn upgraded(&self) -> Value {
        let mut values = self.servers.values(self.mode, REPLICAS);
        values["config"]["source"]["heart_beat"] = json!("10s");
        values
    }

    async fn resume_load(&mut self) -> Load {
        let took = self.set.scale_up(REPLICAS).await;
        row("scale to three", took, "all ready");
        let load = Load::start(&self.servers.broker, self.mode.name(), self.rate, self.published).await;
        self.report_active_pods("load goes on").await;
        load
    }

    /// A wrong upgrade stops at its first pod, and a correct upgrade replaces that pod.
    async fn replace_an_unready_one(&mut self) {
        let right = self.upgraded();
        let mut wrong = right.clone();
        wrong["config"]["sinks"]["kafka"]["topic"] = json!(MISSING_TOPIC);
        let last = REPLICAS - 1;

        self.set.apply(&wrong);
        let (code, stopped) = self.set.restart(last).await;
        assert_eq!(code, DRAINED, "it did not drain");
        let begun = Instant::now();
        let why = self.set.pod(last).is_not_ready(&["sink kafka", "held", MISSING_TOPIC]).await;
        let seen = format!("drained; the new one is alive and not ready: \"{}\"", why.replace('|', "\\|"));
        row(&format!("upgrade to a topic that is not there: pod {last}"), stopped + begun.elapsed(), &seen);
        self.assert_others_continue(last).await;

        self.set.apply(&right);
        let Replaced { code, stopped, ready } = self.set.replace(last).await;
        // A stand-by pod gets no events, so it has nothing to settle.
        let expected = if self.shared() { ABANDONED } else { DRAINED };
        assert_eq!(code, expected, "the exit code of the unready pod");
        let seen = format!(
            "the unready one stopped in {}, exit code {}; its successor was ready in {}",
            ms(stopped),
            code.unwrap_or_default(),
            ms(ready)
        );
        row(&format!("upgrade to what is right: pod {last}"), stopped + ready, &seen);
        self.report_active_pods("after that").await;
    }

    /// The process hangs: liveness fails, SIGTERM has no effect, and at the end of the grace period it is
    /// killed.
    async fn replace_a_frozen_one(&mut self, load: &Load) {
        let begun = Instant::now();
        self.set.pod(0).freeze();
        let why = self.set.pod(0).is_dead().await;
        row("pod 0 hangs (SIGSTOP)", begun.elapsed(), &format!("not alive: {why}"));
        let before = load.published();
        let Replaced { code, stopped, ready } = self.set.replace(0).await;
        assert_eq!(code, None, "the frozen pod ended by itself");
        assert!(load.published() > before, "there was no load");
        let seen = format!(
            "killed at the end of its grace period, after {}; ready again in {}",
            ms(stopped),
            ms(ready)
        );
        row("its restart, the same name", stopped + ready, &seen);
        self.report_active_pods("after that").await;
    }

    /// Waits until more events are acknowledged than were in flight.
    async fn assert_others_continue(&mut self, but: usize) {
        let (broker, queue) = (&self.servers.broker, queue(self.mode));
        let acknowledged = || counts(broker, &queue).dequeued;
        let enough = acknowledged() + REPLICAS as u64 * PREFETCH;
        let progress = wait_until("the other pods continue", SOON, || acknowledged() > enough);
        self.set.watching_all_but(but, progress).await;
    }

    async fn report_active_pods(&mut self, when: &str) {
        let begun = Instant::now();
        let sharing = self.set.sharing(self.shared()).await;
        let all = self.set.replicas();
        if self.shared() {
            row(when, begun.elapsed(), &format!("each of {all} gets events"));
        } else {
            assert_eq!(sharing.len(), 1, "with strict ordering, only one pod gets events: {sharing:?}");
            let ordinal = sharing[0].rsplit_once('-').map_or("", |(_, ordinal)| ordinal);
            row(when, begun.elapsed(), &format!("pod {ordinal} gets all events, {} stand by", all - 1));
        }
    }

    async fn pause(&mut self, load: Load) {
        let begun = Instant::now();
        self.published = load.stop().await;
        emptied(&self.servers.broker, &queue(self.mode)).await;
        row(
            "the load ends",
            begun.elapsed(),
            &format!("{} events so far, the queue is empty", self.published),
        );
    }

    async fn stop(&mut self) {
        let (codes, took) = self.set.scale_down(0).await;
        assert!(codes.iter().all(|code| *code == DRAINED), "not all drained: {codes:?}");
        row("scale to none", took, "all drained, exit code 0");
    }

    async fn audits(&self) -> [Audit; 3] {
        let events = Events::good(self.published);
        let volumes = self.node.claims();
        for volume in &volumes {
            let letters = volume.join("dead-letters");
            if letters.exists() {
                each_line(&letters, |line| panic!("a dead letter: {line}"));
            }
        }
        let (bootstrap, name) = (self.servers.kafka.bootstrap(), self.mode.name());
        // Each key has one partition and one subject, and with strict ordering one pod writes at a time.
        let ordered = !self.shared();
        [
            tokio::task::block_in_place(|| Audit::kafka(&bootstrap, name, events, ordered)),
            Audit::jetstream(&self.servers.jetstream, name, events, ordered).await,
            Audit::files(&volumes, "sinks/file", events),
        ]
    }

    /// Clean stops cause no duplicates. The other sinks already have the events that the unready pod had
    /// taken, and all sinks may have those of the killed pod. Both are delivered again to other pods, which know
    /// what Kafka and the stream hold, but not the files of another pod.
    fn assert_audits(&self, clean: &[Audit; 3], troubled: &[Audit; 3]) {
        let unready = if self.shared() { PREFETCH } else { 0 };
        let allowed = [0, 0, PREFETCH + unready];
        for (what, audits, allowed) in [
            ("Installed, rolled, scaled to five and to one", clean, [0; 3]),
            ("All of it, with the unready and the frozen one", troubled, allowed),
        ] {
            println!("\n{what}:\n\n{COLUMNS}");
            for (audit, doubles) in audits.iter().zip(allowed) {
                println!("{}", audit.row(doubles));
            }
            for (audit, doubles) in audits.iter().zip(allowed) {
                audit.assert(doubles);
            }
        }
        println!("\n{}", if self.shared() { WHY_SHARED } else { WHY_STRICT });
        let lapses = &self.set.lapses;
        assert!(lapses.is_empty(), "untouched pods were not ready: {lapses:#?}");
        println!("\nEvery pod that nothing was done to was ready all the time, asked ten times a second.");
    }
}

fn row(step: &str, took: Duration, seen: &str) {
    eprintln!("{step}: {seen} ({:.1} s)", took.as_secs_f64());
    println!("| {step} | {:.1} s | {seen} |", took.as_secs_f64());
}

fn ms(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}
