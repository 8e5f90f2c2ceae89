//! Names plans that have shown a fault of the bridge. They are written in full, since a seed gives another plan as soon as
//! anything changes in what is drawn.

use std::time::Duration;

use atdata_bridge::journal::config::FileCompression;
use atdata_bridge::source::config::Protocol;

use crate::destination::Kind;
use crate::schedule::{Fault, FileSetting, Plan, Planned, Setting};

/// The names of all plans.
pub const ALL: [&str; 1] = ["a_disk_that_fails_while_files_are_opened"];

/// The plan with this name.
pub fn plan(name: &str) -> Plan {
    match name {
        "a_disk_that_fails_while_files_are_opened" => a_disk_that_fails_while_files_are_opened(),
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
