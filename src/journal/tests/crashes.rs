//! Crashes the machine, or kills the process, at each operation of a journal's life.

use super::*;

/// Runs the whole life of a journal: groups, rotations in between, a clean end.
fn live(process: &mut TestProcess) {
    for count in [2, 1, 5, 3, 4] {
        if process.disk.is_off() || !process.write(count) {
            return;
        }
        process.rotate();
    }
    process.close();
}

/// Crashes the machine, or kills the process, at every single operation of its life. After a restart every line
/// is delivered again. A reader must find each exactly once.
fn survive_every_crash(
    compression: FileCompression,
    name: &str,
    machine: bool,
    keep: impl Fn(usize) -> usize,
) {
    let crash = |disk: &MemoryDisk| if machine { disk.crash(&keep) } else { disk.kill() };
    survive(compression, name, false, &crash);
    if compression != FileCompression::None {
        survive(compression, name, true, &crash);
    }
}

/// `cramped`: there is no room to compress anything.
pub(super) fn survive(compression: FileCompression, name: &str, cramped: bool, crash: &dyn Fn(&MemoryDisk)) {
    for crash_at in 0.. {
        let disk = MemoryDisk::default().without_threads();
        let mut process = TestProcess::new(&disk, settings(compression, name));
        if cramped {
            disk.fail(|op, path| {
                let compressing =
                    op == Op::Append && path.to_str().is_some_and(|path| path.ends_with(".tmp"));
                compressing.then(|| io::ErrorKind::StorageFull.into())
            });
        }
        disk.crash_at(crash_at);
        live(&mut process);
        let completed = !disk.is_off();
        crash(&disk);
        let mut process = process.successor();
        process.next += 6; // more than the group that was being written
        process.redeliver();
        assert!(process.write(2), "crash at {crash_at}");
        process.rotate();
        process.close();
        let (lines, others) = process.finished();
        assert_eq!(others, [""; 0], "crash at {crash_at}");
        assert_eq!(lines, (0..process.next).map(|n| (n, 1)).collect(), "crash at {crash_at}");
        if completed {
            assert!(crash_at > 60, "the life has {crash_at} operations only");
            return;
        }
    }
}

fn no_crash_loses_or_doubles_a_line(compression: FileCompression) {
    for name in ["{connection_id}", "{connection_id}-{partition}"] {
        survive_every_crash(compression, name, false, |n| n);
        survive_every_crash(compression, name, true, |_| 0);
        survive_every_crash(compression, name, true, |n| n);
        survive_every_crash(compression, name, true, |n| n / 2);
        survive_every_crash(compression, name, true, |n| n.saturating_sub(1));
    }
}

#[test]
fn no_crash_loses_or_doubles_a_plain_line() {
    no_crash_loses_or_doubles_a_line(FileCompression::None);
}

#[test]
fn no_crash_loses_or_doubles_a_line_of_zstd() {
    no_crash_loses_or_doubles_a_line(FileCompression::Zstd);
}

#[test]
fn no_crash_loses_or_doubles_a_line_of_gzip() {
    no_crash_loses_or_doubles_a_line(FileCompression::Gzip);
}
