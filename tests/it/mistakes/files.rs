//! Tests mistakes with files and directories, and disk problems.

use std::fs::{self, File, FileTimes};
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::process::getuid;

use super::{Scenario, scenarios};
use kit::bridge::Setup;
use kit::broker::{Broker, Protocol, Version, shared_if_available};
use kit::did_not_run;
use kit::disk::small_disks;
use kit::events::Events;
use kit::output::{Tally, assert_dead_letters};
use kit::scenario::{counts, drain, emptied, place, publish, subscribed};

scenarios!(
    "files":
    full_disk,
    full_disk_gzip,
    full_disk_zstd,
    directory_is_a_file,
    directory_under_a_file,
    directory_is_a_link_to_nowhere,
    no_permission,
    no_permission_above,
    read_only,
    max_total,
    max_age,
    locked,
    lock_is_a_link,
    lock_is_a_directory,
    finished_name_exists,
    ready_and_finished,
    name_too_long,
    open_to_others,
    letters_full_disk,
    letters_directory_is_a_file,
    letters_directory_is_a_link_to_nowhere,
    letters_no_permission,
    letters_read_only,
    letters_locked,
    letters_open_to_others,
    no_directory,
    letters_no_directory,
    name_without_connection_id,
    name_with_a_slash,
    name_with_an_unknown_placeholder,
    name_with_partition_but_no_number,
    same_names_twice,
    max_total_below_one_file,
    max_age_too_short,
    max_open_zero,
    rotate_size_zero,
    rotate_age_too_short,
    unknown_compression,
);

const WAITING: u64 = 5;
/// Mounts a full disk on `$1` (files) or `$2` (dead letters): the test replaces `$D` with one of them.
const FULL: &str = r#"mkdir -p "$D"; mount -t tmpfs -o size=1m,mode=0700 none "$D"; cat /dev/zero > "$D/ballast" 2> /dev/null || true"#;
const READ_ONLY: &str = r#"mkdir -p "$D"; mount -t tmpfs -o ro,size=1m,mode=0700 none "$D""#;
const FILES: &str = "$1";
const LETTERS: &str = "$2";

/// A bridge and the events that wait in its queue.
struct Waiting {
    broker: &'static Broker,
    queue: String,
    connection: String,
    events: Events,
    setup: Setup,
}

/// Publishes good events or events that become dead letters. Returns `None` where there is no broker.
async fn waiting(id: &str, events: Events) -> Option<Waiting> {
    let broker = shared_if_available(Version::V6, id)?;
    let (namespace, queue) = place(Protocol::Stomp, id);
    let setup = Setup::new(broker, Protocol::Stomp, &namespace, "main", &namespace)
        .set("SHUTDOWN__DRAIN_TIMEOUT", "1s");
    // The first subscription creates the queue. Then the directories are removed, so that no file is left. A bridge
    // that is stopped at once may not have made them yet.
    let first = setup.start();
    subscribed(broker, &queue, 1).await;
    drain(first).await;
    for directory in [setup.files(), setup.dead_letters()] {
        match fs::remove_dir_all(directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => removed.expect("remove a directory"),
        }
    }
    publish(broker, &namespace, events).await;
    Some(Waiting { broker, queue, connection: namespace, events, setup })
}

async fn good(id: &str) -> Option<Waiting> {
    waiting(id, Events::good(WAITING)).await
}

/// Problems of the dead-letter store appear only with events that become dead letters. These stay in the
/// queue (I6).
async fn bad(id: &str) -> Option<Waiting> {
    waiting(id, Events::good(WAITING).with_bad(1)).await
}

impl Waiting {
    fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.setup = self.setup.set(name, value);
        self
    }

    fn prepared(mut self, script: &str, directory: &str) -> Self {
        self.setup = self.setup.prepared(&script.replace("$D", directory));
        self
    }

    fn files(&self) -> PathBuf {
        create(self.setup.files())
    }

    fn letters(&self) -> PathBuf {
        create(self.setup.dead_letters())
    }

    fn lock(&self) -> PathBuf {
        self.files().join(format!(".{}.lock", self.connection))
    }

    fn finished(&self) -> PathBuf {
        self.files().join(format!("{}-20260101T000000000Z-000000.jsonl", self.connection))
    }

    /// Checks that the mistake is reported and nothing is acknowledged. After `repair`, every event must be
    /// delivered.
    async fn shows(self, id: &str, repair: impl FnOnce(&Setup)) {
        self.shows_as(id, |scenario| scenario, repair).await;
    }

    async fn shows_as(self, id: &str, how: impl FnOnce(Scenario) -> Scenario, repair: impl FnOnce(&Setup)) {
        let Self { broker, queue, events, setup, .. } = self;
        let scenario = Scenario::new(setup).exits(75).keeps(broker, &queue, WAITING);
        let setup = how(scenario).shows(id).await.unprepared();
        repair(&setup);
        let bridge = setup.start();
        emptied(broker, &queue).await;
        drain(bridge).await;
        match events.bad_every {
            None => Tally::of(events, setup.files()).assert_complete(0),
            Some(_) => assert_dead_letters(events, setup.dead_letters()),
        }
        assert_eq!(counts(broker, &queue).dequeued, WAITING);
    }
}

fn create(directory: &Path) -> PathBuf {
    fs::create_dir_all(directory).expect("make a directory");
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).expect("set a mode");
    directory.to_owned()
}

fn nothing(_: &Setup) {}

/// Returns whether mounts are possible here; reports a skipped test otherwise.
fn mounts(id: &str) -> bool {
    small_disks().map_err(|reason| did_not_run(id, &reason)).is_ok()
}

/// Takes the bridge's permissions for `directory` away. Root ignores permissions, so the directory gets an
/// owner that does not exist in the bridge's user namespace.
fn forbid(mut waiting: Waiting, directory: &Path) -> Waiting {
    if getuid().is_root() {
        chown(directory, Some(65534), Some(65534)).expect("give a directory away");
        waiting = waiting.prepared(":", FILES);
    } else {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o500)).expect("set a mode");
    }
    waiting
}

fn allow(directory: &Path) {
    if getuid().is_root() {
        chown(directory, Some(0), Some(0)).expect("take a directory back");
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).expect("set a mode");
}

async fn full_disk(id: &str) {
    if mounts(id)
        && let Some(waiting) = good(id).await
    {
        waiting.prepared(FULL, FILES).shows(id, nothing).await;
    }
}

async fn full_disk_gzip(id: &str) {
    if mounts(id)
        && let Some(waiting) = good(id).await
    {
        waiting.set("SINKS__FILE__COMPRESSION", "gzip").prepared(FULL, FILES).shows(id, nothing).await;
    }
}

async fn full_disk_zstd(id: &str) {
    if mounts(id)
        && let Some(waiting) = good(id).await
    {
        waiting.set("SINKS__FILE__COMPRESSION", "zstd").prepared(FULL, FILES).shows(id, nothing).await;
    }
}

async fn directory_is_a_file(id: &str) {
    let Some(waiting) = good(id).await else { return };
    fs::write(waiting.setup.files(), "in the way").expect("write a file");
    waiting.shows(id, |setup| fs::remove_file(setup.files()).expect("remove a file")).await;
}

async fn directory_under_a_file(id: &str) {
    let Some(waiting) = good(id).await else { return };
    let file = waiting.setup.files().to_owned();
    fs::write(&file, "in the way").expect("write a file");
    let below = file.join("events").display().to_string();
    let waiting = waiting.set("SINKS__FILE__DIRECTORY", below);
    let Waiting { broker, queue, setup, events, .. } = waiting;
    let setup = Scenario::new(setup).exits(75).keeps(broker, &queue, WAITING).shows(id).await;
    fs::remove_file(&file).expect("remove a file");
    let bridge = setup.start();
    emptied(broker, &queue).await;
    drain(bridge).await;
    Tally::of(events, &file.join("events")).assert_complete(0);
}

async fn directory_is_a_link_to_nowhere(id: &str) {
    let Some(waiting) = good(id).await else { return };
    symlink("nowhere", waiting.setup.files()).expect("make a link");
    waiting.shows(id, |setup| fs::remove_file(setup.files()).expect("remove a link")).await;
}

async fn no_permission(id: &str) {
    if !mounts(id) {
        return;
    }
    let Some(waiting) = good(id).await else { return };
    let directory = waiting.files();
    forbid(waiting, &directory).shows(id, |_| allow(&directory)).await;
}

async fn no_permission_above(id: &str) {
    if !mounts(id) {
        return;
    }
    let Some(mut waiting) = good(id).await else { return };
    let above = waiting.files();
    let below = above.join("events");
    waiting = forbid(waiting.set("SINKS__FILE__DIRECTORY", below.display().to_string()), &above);
    let Waiting { broker, queue, setup, events, .. } = waiting;
    let setup = Scenario::new(setup).exits(75).keeps(broker, &queue, WAITING).shows(id).await.unprepared();
    allow(&above);
    let bridge = setup.start();
    emptied(broker, &queue).await;
    drain(bridge).await;
    Tally::of(events, &below).assert_complete(0);
}

async fn read_only(id: &str) {
    if mounts(id)
        && let Some(waiting) = good(id).await
    {
        waiting.prepared(READ_ONLY, FILES).shows(id, nothing).await;
    }
}

async fn max_total(id: &str) {
    let Some(waiting) = good(id).await else { return };
    let finished = waiting.finished();
    fs::write(&finished, vec![b'\n'; 1 << 20]).expect("write a file");
    let waiting = waiting.set("SINKS__FILE__MAX_TOTAL", "1MiB").set("SINKS__FILE__ROTATE__SIZE", "1MiB");
    waiting.shows(id, |_| fs::remove_file(&finished).expect("move a file away")).await;
}

async fn max_age(id: &str) {
    let Some(waiting) = good(id).await else { return };
    let finished = waiting.finished();
    let old = SystemTime::now() - Duration::from_secs(2 * 3600);
    let file = File::create(&finished).expect("write a file");
    file.set_times(FileTimes::new().set_modified(old)).expect("make a file old");
    let waiting = waiting.set("SINKS__FILE__MAX_AGE", "1h");
    waiting.shows(id, |_| fs::remove_file(&finished).expect("move a file away")).await;
}

/// Locks the file, as another bridge with the same file names does.
fn hold(lock: &Path) -> File {
    fs::write(lock, "process 4711\n").expect("write a file");
    let lock = File::open(lock).expect("open a file");
    lock.lock().expect("lock a file");
    lock
}

async fn locked(id: &str) {
    let Some(waiting) = good(id).await else { return };
    let held = hold(&waiting.lock());
    // `check` only warns of it, because the lock usually belongs to the running bridge itself.
    waiting.shows_as(id, Scenario::unseen_by_check, move |_| drop(held)).await;
}

async fn lock_is_a_link(id: &str) {
    let Some(waiting) = good(id).await else { return };
    let (lock, precious) = (waiting.lock(), waiting.files().join("precious"));
    fs::write(&precious, "not to be touched").expect("write a file");
    symlink("precious", &lock).expect("make a link");
    waiting
        .shows(id, |_| {
            assert_eq!(fs::read_to_string(&precious).expect("read a file"), "not to be touched");
            fs::remove_file(&lock).expect("remove a link");
        })
        .await;
}

async fn lock_is_a_directory(id: &str) {
    let Some(waiting) = good(id).await else { return };
    let lock = waiting.lock();
    fs::create_dir(&lock).expect("make a directory");
    waiting.shows(id, |_| fs::remove_dir(&lock).expect("remove a directory")).await;
}

/// A copy of the finished file is there again, while the open file is still to be finished.
async fn finished_name_exists(id: &str) {
    let Some(waiting) = good(id).await else { return };
    let finished = waiting.finished();
    fs::write(&finished, "").expect("write a file");
    fs::write(finished.with_extension("jsonl.open"), "").expect("write a file");
    waiting.shows(id, |_| fs::remove_file(&finished).expect("move a file away")).await;
}

async fn ready_and_finished(id: &str) {
    let Some(waiting) = good(id).await else { return };
    let [ready, finished] =
        ["jsonl.gz.ready", "jsonl.gz"].map(|ending| waiting.finished().with_extension(ending));
    let nothing_compressed = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    fs::write(&ready, nothing_compressed).expect("write a file");
    fs::write(&finished, "kept").expect("write a file");
    waiting
        .set("SINKS__FILE__COMPRESSION", "gzip")
        .shows(id, |_| {
            assert_eq!(fs::read_to_string(&finished).expect("read a file"), "kept");
            fs::remove_file(&finished).expect("move a file away");
        })
        .await;
}

async fn name_too_long(id: &str) {
    let Some(waiting) = good(id).await else { return };
    let Waiting { broker, queue, setup, events, .. } =
        waiting.set("SINKS__FILE__NAME", format!("{{connection_id}}-{}", "x".repeat(230)));
    let setup = Scenario::new(setup).exits(75).keeps(broker, &queue, WAITING).shows(id).await;
    let setup = setup.unset("SINKS__FILE__NAME");
    let bridge = setup.start();
    emptied(broker, &queue).await;
    drain(bridge).await;
    Tally::of(events, setup.files()).assert_complete(0);
}

async fn open_to_others(id: &str) {
    let Some(broker) = shared_if_available(Version::V6, id) else { return };
    let setup = Setup::new(broker, Protocol::Stomp, id, "main", id);
    let directory = create(setup.files());
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("set a mode");
    Scenario::new(setup).shows(id).await;
}

async fn letters_full_disk(id: &str) {
    if mounts(id)
        && let Some(waiting) = bad(id).await
    {
        waiting.prepared(FULL, LETTERS).shows(id, nothing).await;
    }
}

async fn letters_directory_is_a_file(id: &str) {
    let Some(waiting) = bad(id).await else { return };
    fs::write(waiting.setup.dead_letters(), "in the way").expect("write a file");
    waiting.shows(id, |setup| fs::remove_file(setup.dead_letters()).expect("remove a file")).await;
}

async fn letters_directory_is_a_link_to_nowhere(id: &str) {
    let Some(waiting) = bad(id).await else { return };
    symlink("nowhere", waiting.setup.dead_letters()).expect("make a link");
    waiting.shows(id, |setup| fs::remove_file(setup.dead_letters()).expect("remove a link")).await;
}

async fn letters_no_permission(id: &str) {
    if !mounts(id) {
        return;
    }
    let Some(waiting) = bad(id).await else { return };
    let directory = waiting.letters();
    forbid(waiting, &directory).shows(id, |_| allow(&directory)).await;
}

async fn letters_read_only(id: &str) {
    if mounts(id)
        && let Some(waiting) = bad(id).await
    {
        waiting.prepared(READ_ONLY, LETTERS).shows(id, nothing).await;
    }
}

async fn letters_locked(id: &str) {
    let Some(waiting) = bad(id).await else { return };
    let held = hold(&waiting.letters().join(format!(".dead-letters-{}.lock", waiting.connection)));
    waiting.shows_as(id, Scenario::unseen_by_check, move |_| drop(held)).await;
}

async fn letters_open_to_others(id: &str) {
    let Some(broker) = shared_if_available(Version::V6, id) else { return };
    let setup = Setup::new(broker, Protocol::Stomp, id, "main", id);
    let directory = create(setup.dead_letters());
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("set a mode");
    Scenario::new(setup).shows(id).await;
}

/// Builds the setup of a bridge that is refused before it opens anything, so it needs no broker.
fn offline(id: &str) -> Setup {
    Setup::at("stomp://127.0.0.1:1", "acme", "main", id)
}

async fn refused(id: &str, name: &str, value: &str) {
    Scenario::new(offline(id).set(name, value)).shows(id).await;
}

async fn no_directory(id: &str) {
    let setup = offline(id).unset("SINKS__FILE__DIRECTORY").set("SINKS__FILE__COMPRESSION", "gzip");
    Scenario::new(setup).shows(id).await;
}

async fn letters_no_directory(id: &str) {
    Scenario::new(offline(id).unset("DEAD_LETTERS__DIRECTORY")).shows(id).await;
}

async fn name_without_connection_id(id: &str) {
    refused(id, "SINKS__FILE__NAME", "events").await;
}

async fn name_with_a_slash(id: &str) {
    refused(id, "SINKS__FILE__NAME", "{connection_id}/{date}").await;
}

async fn name_with_an_unknown_placeholder(id: &str) {
    refused(id, "SINKS__FILE__NAME", "{connection_id}-{topic}").await;
}

async fn name_with_partition_but_no_number(id: &str) {
    refused(id, "SINKS__FILE__NAME", "{connection_id}-{partition}").await;
}

async fn same_names_twice(id: &str) {
    let setup = offline(id);
    let directory = setup.files().display().to_string();
    let setup = setup.set("SINKS__OTHER__KIND", "file").set("SINKS__OTHER__DIRECTORY", directory);
    Scenario::new(setup).shows(id).await;
}

async fn max_total_below_one_file(id: &str) {
    refused(id, "SINKS__FILE__MAX_TOTAL", "1MiB").await;
}

async fn max_age_too_short(id: &str) {
    refused(id, "SINKS__FILE__MAX_AGE", "10ms").await;
}

async fn max_open_zero(id: &str) {
    refused(id, "SINKS__FILE__MAX_OPEN", "0").await;
}

async fn rotate_size_zero(id: &str) {
    refused(id, "SINKS__FILE__ROTATE__SIZE", "0").await;
}

async fn rotate_age_too_short(id: &str) {
    refused(id, "SINKS__FILE__ROTATE__AGE", "10ms").await;
}

async fn unknown_compression(id: &str) {
    refused(id, "SINKS__FILE__COMPRESSION", "lz4").await;
}
