//! Measures the parts of the hot path separately, with all threads on one core.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use atdata_bridge::budget::Budget;
use atdata_bridge::diagnostics::Diagnostics;
use atdata_bridge::event::{Batch, Event, Headers, Message, SessionId};
use atdata_bridge::key::Keying;
use atdata_bridge::sink::factory::BuildContext;
use atdata_bridge::sink::file::FileSink;
use atdata_bridge::sink::file::config::FileConfig;
use atdata_bridge::sink::file::validate::check;
use atdata_bridge::sink::{Delivery, DeliveryId, Sink, SinkContext, Verdict};
use atdata_bridge::source::stomp::framing::{StompDecoder, StompLimits};
use bytes::Bytes;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use kit::events::Events;
use kit::stomp::write_message;

const EVENTS: u64 = 100_000;
const REPETITIONS: usize = 5;
/// The most bytes of one socket read.
const READ: usize = 64 << 10;
/// Events in a batch of a fast broker.
const BATCH: usize = 100;

pub fn measure() {
    eprintln!("parts");
    // Threads inherit the affinity, so those of the file sink run on the same core.
    let parts = thread::spawn(|| {
        pin();
        (decode(), find_keys(), write_files())
    });
    let (decode, keys, files) = parts.join().expect("measure the parts");
    let each = |elapsed: Duration| elapsed.as_nanos() as f64 / EVENTS as f64;
    println!("\n## Parts, on one core, best of {REPETITIONS}\n\n| | per event | events/s |\n|---|---:|---:|");
    for (name, elapsed) in [
        ("STOMP decoder, bytes to frames", decode),
        ("key of a body", keys),
        ("file sink, submitted to durable", files),
    ] {
        println!("| {name} | {:.0} ns | {:.0} |", each(elapsed), 1e9 / each(elapsed));
    }
}

fn pin() {
    let allowed = sched_getaffinity(None).expect("read the affinity");
    let core = (0..CpuSet::MAX_CPU).find(|core| allowed.is_set(*core)).expect("a core");
    let mut one = CpuSet::new();
    one.set(core);
    sched_setaffinity(None, &one).expect("stay on one core");
}

fn best(mut run: impl FnMut() -> Duration) -> Duration {
    (0..REPETITIONS).map(|_| run()).min().unwrap_or_default()
}

/// MESSAGE frames as ActiveMQ writes them.
fn wire() -> String {
    let mut wire = String::new();
    for (number, body) in (0..).zip(Events::good(EVENTS).bodies()) {
        write_message(&mut wire, number, &body);
    }
    wire
}

fn decode() -> Duration {
    let wire = wire();
    best(|| {
        let mut decoder = StompDecoder::new(StompLimits::with_body(1 << 20), Budget::new(usize::MAX));
        let (mut frames, mut count) = (Vec::new(), 0);
        let mut rest = wire.as_bytes();
        let begun = Instant::now();
        while !rest.is_empty() {
            // Like a socket, fills at most the free space of the buffer.
            let buffer = decoder.buffer();
            let (read, more) = rest.split_at(rest.len().min(READ).min(buffer.capacity() - buffer.len()));
            buffer.extend_from_slice(read);
            rest = more;
            decoder.decode(&mut frames).expect("frames");
            count += frames.len() as u64;
            frames.clear();
        }
        let elapsed = begun.elapsed();
        assert_eq!(count, EVENTS);
        elapsed
    })
}

fn find_keys() -> Duration {
    let bodies: Vec<String> = Events::good(EVENTS).bodies().collect();
    let keying = Keying::new(vec!["/md5".to_owned()], false);
    best(|| {
        let begun = Instant::now();
        for body in &bodies {
            black_box(keying.key_of(body.as_bytes()).expect("a key"));
        }
        begun.elapsed()
    })
}

fn write_files() -> Duration {
    let batches = batches();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("start a runtime");
    best(|| {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("make a directory");
        runtime.block_on(write(directory.path(), &batches))
    })
}

fn batches() -> Vec<Arc<Batch>> {
    let keying = Keying::new(vec!["/md5".to_owned()], false);
    let event = |number: u64| {
        let body = Bytes::from(Events::good(EVENTS).body(number));
        let id = Bytes::from(format!("ID:broker-1:{number}"));
        let message = Message {
            id,
            body,
            timestamp: Some(0),
            redelivered: false,
            headers: Headers::empty(),
            unreadable: None,
        };
        Event::new(message, &keying)
    };
    let batch = |first| {
        let events = (first..first + BATCH as u64).map(event).collect();
        Arc::new(Batch { session: SessionId(1), first, events, received: Instant::now() })
    };
    (0..EVENTS).step_by(BATCH).map(batch).collect()
}

async fn write(directory: &Path, batches: &[Arc<Batch>]) -> Duration {
    let config = FileConfig { directory: Some(directory.to_owned()), ..FileConfig::default() };
    let build_context =
        BuildContext { partitions: None, prefetch: 1024, is_strict: false, is_for_dead_letters: false };
    let settings = check(&config, &build_context, &mut Diagnostics::default()).expect("good settings");
    let mut sink = FileSink::new(settings, context());
    let (mut submit, mut verdicts) = sink.open().await.expect("open the sink");
    let begun = Instant::now();
    let mut events = batches.iter().flat_map(Batch::refs).zip(0..).peekable();
    let (mut waiting, mut durable) = (Vec::new(), 0);
    while durable < EVENTS {
        while waiting.len() < BATCH && events.peek().is_some() {
            waiting.extend(events.next().map(|(event, id)| Delivery { id: DeliveryId(id), event }));
        }
        let accepted = submit.submit(&waiting).expect("submit");
        waiting.drain(..accepted);
        if accepted == 0 || events.peek().is_none() {
            for (id, verdict) in verdicts.next().await.expect("verdicts") {
                assert!(matches!(verdict, Verdict::Durable), "{id:?}: {verdict:?}");
                durable += 1;
            }
        }
    }
    let elapsed = begun.elapsed();
    submit.close().await.expect("close the sink");
    elapsed
}

fn context() -> SinkContext {
    SinkContext {
        sink: "file".to_owned(),
        namespace: "acme".to_owned(),
        destination_id: "bench".to_owned(),
        connection_id: "bench-1".to_owned(),
        queue: "bench.RTO.acme".to_owned(),
        partitions: None,
        max_body: 4 << 20,
        ..SinkContext::default()
    }
}
