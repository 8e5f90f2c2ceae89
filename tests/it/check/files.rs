//! Plants mistakes in the directory of the files.

use std::fs::{self, File, FileTimes};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::{finds, held};
use kit::bridge::Setup;
use kit::did_not_run;
use kit::disk::small_disks;

/// A bridge whose broker is away, which is another part, and its directory.
fn setup() -> Setup {
    let setup = Setup::at("stomp://127.0.0.1:1", "acme", "main", "check-files");
    fs::create_dir(setup.files()).expect("make a directory");
    setup
}

fn finished(setup: &Setup) -> PathBuf {
    setup.files().join("check-files-20260101T000000000Z-000000.jsonl")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_of_files() {
    let in_the_way = Setup::at("stomp://127.0.0.1:1", "acme", "main", "check-files");
    fs::write(in_the_way.files(), "in the way").expect("write a file");
    finds("a file in the way", &in_the_way, &[], held("files-failed"));

    let too_many = setup().set("SINKS__FILE__MAX_TOTAL", "1MiB").set("SINKS__FILE__ROTATE__SIZE", "1MiB");
    fs::write(finished(&too_many), vec![b'\n'; 1 << 20]).expect("write a file");
    finds("too many files", &too_many, &[], held("files-max-total"));

    let too_old = setup().set("SINKS__FILE__MAX_AGE", "1h");
    let old = SystemTime::now() - Duration::from_secs(2 * 3600);
    let file = File::create(finished(&too_old)).expect("write a file");
    file.set_times(FileTimes::new().set_modified(old)).expect("make a file old");
    finds("an old file", &too_old, &[], held("files-max-age"));

    let taken = setup();
    fs::write(finished(&taken), "").expect("write a file");
    fs::write(finished(&taken).with_extension("jsonl.open"), "").expect("write a file");
    finds("a name that is taken", &taken, &[], held("files-name-taken"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_of_a_file_system() {
    if let Err(reason) = small_disks() {
        return did_not_run("mistakes_of_a_file_system", &reason);
    }
    let fill = "cat /dev/zero > \"$1/ballast\" 2> /dev/null || true";
    let full = setup().prepared(&format!("mount -t tmpfs -o size=1m,mode=0700 none \"$1\"; {fill}"));
    finds("a full disk", &full, &[], held("files-no-room"));
    let read_only = setup().prepared("mount -t tmpfs -o ro,size=1m,mode=0700 none \"$1\"");
    finds("a disk for reading", &read_only, &[], held("files-read-only"));
}
