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

/// A killed process, and power cuts that leave more or less of what was not synced.
const CRASHES: [fn(&MemoryDisk); 5] = [
    MemoryDisk::kill,
    |disk| disk.crash(|_| 0),
    |disk| disk.crash(|n| n),
    |disk| disk.crash(|n| n / 2),
    |disk| disk.crash(|n| n.saturating_sub(1)),
];

/// Lets each of the crashes happen at every single operation of a journal's life. After a restart every line is
/// delivered again. A reader must find each exactly once. `cramped`: there is no room to compress anything.
pub(super) fn survive(
    compression: FileCompression,
    name: &str,
    cramped: bool,
    crashes: &[impl Fn(&MemoryDisk)],
) {
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
        for (n, crash) in crashes.iter().enumerate() {
            let disk = disk.copy();
            crash(&disk);
            restart(process.successor_on(&disk), &format!("crash {n} at {crash_at}"));
        }
        if completed {
            assert!(crash_at > 60, "the life has {crash_at} operations only");
            return;
        }
    }
}

/// Lets the process that starts after a crash deliver all again and end.
fn restart(mut process: TestProcess, after: &str) {
    process.next += 6; // more than the group that was being written
    process.redeliver();
    assert!(process.write(2), "{after}");
    process.rotate();
    process.close();
    let (lines, others) = process.finished();
    assert_eq!(others, [""; 0], "{after}");
    assert_eq!(lines, (0..process.next).map(|n| (n, 1)).collect(), "{after}");
}

fn no_crash_loses_or_doubles_a_line(compression: FileCompression) {
    for name in ["{connection_id}", "{connection_id}-{partition}"] {
        survive(compression, name, false, &CRASHES);
        if compression != FileCompression::None {
            survive(compression, name, true, &CRASHES);
        }
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
