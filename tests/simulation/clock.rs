//! Makes the wall clock of the process show simulated time.

#![allow(unsafe_code, reason = "it takes the place of a function of the C library")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime as of_the_system};

/// The time of the simulation's beginning, in seconds since 1970.
const BEGAN: u64 = 1_800_000_000;

/// Nanoseconds of simulated time.
static PASSED: AtomicU64 = AtomicU64::new(0);

/// Sets how much simulated time has passed.
pub fn set(passed: Duration) {
    PASSED.store(passed.as_nanos() as u64, Ordering::Relaxed);
}

/// The C library's `struct timespec` of a machine with 64 bits.
#[repr(C)]
pub struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

/// Takes the place of `clock_gettime` of the C library, which the standard library calls.
///
/// # Safety
/// As for the original: `time` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: i32, time: *mut Timespec) -> i32 {
    let now = if clock == ClockId::Realtime as i32 {
        let passed = PASSED.load(Ordering::Relaxed);
        Timespec {
            seconds: (BEGAN + passed / 1_000_000_000) as i64,
            nanoseconds: (passed % 1_000_000_000) as i64,
        }
    } else {
        let now = of_the_system(ClockId::Monotonic);
        Timespec { seconds: now.tv_sec, nanoseconds: now.tv_nsec }
    };
    // SAFETY: the caller promises that it may be written.
    unsafe { time.write(now) };
    0
}
