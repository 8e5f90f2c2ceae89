//! Tells for `check` whether the file system of a directory suits a journal: its type, its room, and how long
//! a sync takes.

use std::path::Path;
use std::time::Duration;

use rustix::fs::statfs;

use crate::finding::{Code, Finding, codes};
use crate::units::Size;

/// With less room than for so many files the disk is full soon, since finished files need a moment to move away.
const FILES: u64 = 2;
/// Each group of events waits for one sync, so a slower one delays every event noticeably.
const SLOW: Duration = Duration::from_millis(100);

const MIB: u64 = 1 << 20;

/// The types of file systems, by the numbers of Linux (`linux/magic.h`), that get a warning.
const TYPES: [(u32, &str, &Risk); 7] = [
    (0x0102_1994, "tmpfs", &IN_MEMORY),
    (0x8584_58f6, "ramfs", &IN_MEMORY),
    (0x794c_7630, "overlay", &IN_CONTAINER),
    (0x6969, "NFS", &ON_NETWORK),
    (0xff53_4d42, "CIFS", &ON_NETWORK),
    (0xfe53_4d42, "SMB", &ON_NETWORK),
    (0x517b, "SMB", &ON_NETWORK),
];

/// Why a type of file system gets a warning, and what to do.
struct Risk {
    code: Code,
    text: &'static str,
}

const IN_MEMORY: Risk = Risk {
    code: codes::FILES_IN_MEMORY,
    text: "which is in memory: its files are lost when the machine or the pod stops; name a directory on a disk",
};
const IN_CONTAINER: Risk = Risk {
    code: codes::FILES_IN_CONTAINER,
    text: "the file system of a container: its files are lost with the container; mount a volume there",
};
const ON_NETWORK: Risk = Risk {
    code: codes::FILES_ON_NETWORK,
    text: "a network file system: a sync is as durable as its server makes it; name a directory on a disk of this \
           machine, or see that the server writes to disk before it answers (for NFS, export it with `sync`)",
};

/// Returns a warning if files in `directory` are less durable than files on a disk. No answer of the system is
/// no warning.
pub(super) fn of_type(directory: &Path) -> Option<Finding> {
    // The other bits are the sign of a number that some systems have with 32 bits.
    let number = statfs(directory).ok()?.f_type as u32;
    type_warning(directory, number)
}

fn type_warning(directory: &Path, number: u32) -> Option<Finding> {
    let (_, name, Risk { code, text }) = TYPES.into_iter().find(|(known, ..)| *known == number)?;
    let message = format!("{} is on {name}, {text}", directory.display());
    Some(Finding::warning(code.clone(), message))
}

/// Returns how much room is left. `rotate_size` is the size at which a file is finished, and `section` the
/// table that sets it.
pub(super) fn of_room(directory: &Path, room: u64, rotate_size: u64, section: &str) -> Finding {
    let (shown, left) = (directory.display(), rounded(room));
    if room < rotate_size.saturating_mul(FILES) {
        let message = format!(
            "{shown} has room for {left}, less than {FILES} files of {section}.rotate.size, {}: nothing is written to \
             a full disk; make room, or lower that",
            Size(rotate_size)
        );
        return Finding::warning(codes::FILES_LITTLE_ROOM, message);
    }
    Finding::detail(codes::FILES_ROOM, format!("{shown} has room for {left}"))
}

/// Whole mebibytes are enough where there are many.
fn rounded(bytes: u64) -> Size {
    Size(if bytes < 10 * MIB { bytes } else { bytes / MIB * MIB })
}

/// Returns how long the median of `syncs` took; `None` without any.
pub(super) fn of_syncs(directory: &Path, mut syncs: Vec<Duration>) -> Option<Finding> {
    syncs.sort_unstable();
    let median = *syncs.get(syncs.len() / 2)?;
    let message = format!("a sync in {} takes {:.1} ms", directory.display(), median.as_secs_f64() * 1000.0);
    if median <= SLOW {
        return Some(Finding::detail(codes::FILES_SYNC, message));
    }
    let message = format!("{message}, and every event waits for one: take a faster disk");
    Some(Finding::warning(codes::FILES_SLOW_SYNC, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> &'static Path {
        Path::new("/data")
    }

    #[test]
    fn file_systems_that_keep_less_than_a_disk_are_told() {
        for (number, words) in [
            (0x0102_1994, "/data is on tmpfs, which is in memory"),
            (0x794c_7630, "/data is on overlay, the file system of a container"),
            (0x6969, "/data is on NFS, a network file system"),
        ] {
            let found = type_warning(directory(), number).unwrap();
            assert!(found.is_warning && found.message.starts_with(words), "{found}");
        }
        for ext4_and_xfs in [0xef53, 0x5846_5342] {
            assert_eq!(type_warning(directory(), ext4_and_xfs), None);
        }
        assert_eq!(of_type(Path::new("/no/such/directory")), None);
    }

    #[test]
    fn less_room_than_for_two_files_is_told() {
        let found = of_room(directory(), 199, 100, "sinks.file");
        assert!(found.is_warning && found.message.contains("sinks.file.rotate.size"), "{found}");
        assert!(!of_room(directory(), 200, 100, "sinks.file").is_warning);
        assert!(of_room(directory(), u64::MAX - 1, u64::MAX, "sinks.file").is_warning);
    }

    #[test]
    fn the_median_of_the_syncs_counts() {
        let of =
            |times: &[u64]| of_syncs(directory(), times.iter().copied().map(Duration::from_millis).collect());
        assert!(!of(&[900, 3, 100]).unwrap().is_warning);
        assert!(!of(&[1, 2, 900, 3, 800]).unwrap().is_warning);
        let slow = of(&[101, 5, 300]).unwrap();
        assert!(slow.is_warning && slow.message.contains("takes 101.0 ms"), "{slow}");
        assert_eq!(of(&[]), None);
    }
}
