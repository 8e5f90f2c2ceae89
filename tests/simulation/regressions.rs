//! Names plans that have shown a fault of the bridge. They are written in full, since a seed gives another plan as soon as
//! anything changes in what is drawn.

use std::time::Duration;

use atdata_bridge::journal::config::FileCompression;
use atdata_bridge::source::config::Protocol;

use crate::destination::Kind;
use crate::schedule::{Fault, FileSetting, Plan, Planned, Setting};

/// The names of all plans.
pub const ALL: [&str; 2] =
    ["a_disk_that_fails_while_files_are_opened", "an_event_that_another_replica_gives_back_late"];

/// The plan with this name.
pub fn plan(name: &str) -> Plan {
    match name {
        "a_disk_that_fails_while_files_are_opened" => a_disk_that_fails_while_files_are_opened(),
        "an_event_that_another_replica_gives_back_late" => an_event_that_another_replica_gives_back_late(),
        other => panic!("there is no regression {other}"),
    }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Each opening that failed cut another group off that the broker had been told of.
fn a_disk_that_fails_while_files_are_opened() -> Plan {
    let setting = Setting {
        protocol: Protocol::OpenWire,
        is_strict: false,
        replicas: 1,
        prefetch: 2,
        heart_beat: ms(5000),
        max_in_flight: 16 << 10,
        sinks: vec![(Kind::Unreadable, ms(5)), (Kind::Readable, ms(2))],
        files: Some(FileSetting {
            compression: FileCompression::None,
            rotate_size: 100_000,
            rotate_age: ms(5000),
            is_partitioned: true,
            is_envelope: true,
        }),
        has_letter_files: false,
        disk_delay: ms(2),
        events: 324,
        rate: 50,
        keys: 1,
        odd_every: 0,
        hold: ms(0),
    };
    let faults = vec![
        Planned { at: ms(417), fault: Fault::DiskFails(0, 17, None, ms(29_888)) },
        Planned { at: ms(1880), fault: Fault::PowerCut(0, ms(64)) },
    ];
    Plan { seed: 85, setting, faults }
}

/// The first replica had written the event, and more after it than its worker asked its files for.
fn an_event_that_another_replica_gives_back_late() -> Plan {
    let setting = Setting {
        protocol: Protocol::OpenWire,
        is_strict: false,
        replicas: 2,
        prefetch: 2,
        heart_beat: ms(2000),
        max_in_flight: 64 << 10,
        sinks: vec![(Kind::Readable, ms(2)), (Kind::Readable, ms(2)), (Kind::DropsDuplicates, ms(2))],
        files: Some(FileSetting {
            compression: FileCompression::Gzip,
            rotate_size: 1000,
            rotate_age: ms(5000),
            is_partitioned: false,
            is_envelope: true,
        }),
        has_letter_files: false,
        disk_delay: ms(2),
        events: 83,
        rate: 1000,
        keys: 20,
        odd_every: 0,
        hold: ms(0),
    };
    let faults = vec![
        Planned { at: ms(248), fault: Fault::Restart(ms(133)) },
        Planned { at: ms(334), fault: Fault::DiskHangs(3, ms(693)) },
        Planned { at: ms(488), fault: Fault::Silence(16, ms(6538)) },
        Planned { at: ms(958), fault: Fault::Freeze(5, ms(35_331)) },
    ];
    Plan { seed: 460, setting, faults }
}
