//! Lets the waits of librdkafka's threads last as long as they should when somebody sets the clock.
//!
//! librdkafka waits with C11's `cnd_timedwait` until a time of the wall clock. When the clock is set back by two hours,
//! each thread that waits at this moment does so for two hours, if nothing else wakes it
//! (<https://github.com/confluentinc/librdkafka/issues/2145>, seen with 2.12.1: a sink that was held because the clock
//! was ahead stayed so after the clock had been corrected). The program's own `cnd_timedwait` takes the place of the
//! one in the C library, and waits by the monotonic clock. Nothing else in the program calls this function (D57).
//!
//! Only with glibc, whose conditions are those of POSIX and can be waited for by either clock.

use std::ffi::{c_int, c_long, c_void};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

/// `struct timespec` of the C library.
#[repr(C)]
pub(super) struct TimeSpec {
    seconds: i64,
    nanoseconds: c_long,
}

const MONOTONIC: c_int = ClockId::Monotonic as c_int;
const TIMED_OUT: c_int = Errno::TIMEDOUT.raw_os_error();
/// What C11's functions return: `thrd_success`, `thrd_error` and `thrd_timedout`.
const RETURNED: [c_int; 3] = [0, 2, 4];

#[expect(unsafe_code, reason = "no crate has a name for it")]
unsafe extern "C" {
    /// Waits until a time of the clock with this number, in POSIX:2024. Returns 0 or the number of an error.
    fn pthread_cond_clockwait(
        condition: *mut c_void,
        mutex: *mut c_void,
        clock: c_int,
        until: *const TimeSpec,
    ) -> c_int;
}

/// Waits for the condition, until this time of the wall clock at most.
///
/// # Safety
/// As for the function of the C library: the condition and the mutex are initialised, and this thread has locked the
/// mutex.
#[expect(unsafe_code, reason = "it takes the place of a function of the C library")]
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn cnd_timedwait(
    condition: *mut c_void,
    mutex: *mut c_void,
    until: *const TimeSpec,
) -> c_int {
    let [success, error, timed_out] = RETURNED;
    // SAFETY: the caller passes a time.
    let until = deadline(unsafe { &*until });
    // SAFETY: the caller promises the same about both. In glibc, `cnd_t` and `mtx_t` are the types of POSIX.
    match unsafe { pthread_cond_clockwait(condition, mutex, MONOTONIC, &raw const until) } {
        0 => success,
        TIMED_OUT => timed_out,
        _ => error,
    }
}

/// Returns the time of the monotonic clock that is as far away as `until` is by the wall clock.
fn deadline(until: &TimeSpec) -> TimeSpec {
    let duration = |seconds: i64, nanoseconds: c_long| {
        Duration::from_secs(seconds.max(0).unsigned_abs())
            + Duration::from_nanos(nanoseconds.max(0).unsigned_abs())
    };
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = clock_gettime(ClockId::Monotonic);
    let wait = duration(until.seconds, until.nanoseconds).saturating_sub(wall);
    let at = duration(now.tv_sec, now.tv_nsec) + wait;
    TimeSpec {
        seconds: i64::try_from(at.as_secs()).unwrap_or(i64::MAX),
        nanoseconds: c_long::from(at.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_as_long_by_either_clock() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let until = |at: Duration| {
            let nanoseconds = c_long::from(at.subsec_nanos());
            let until = deadline(&TimeSpec { seconds: i64::try_from(at.as_secs()).unwrap(), nanoseconds });
            let now = clock_gettime(ClockId::Monotonic);
            Duration::new(until.seconds.unsigned_abs(), u32::try_from(until.nanoseconds).unwrap())
                .saturating_sub(Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap()))
        };
        let (hour, minute) = (Duration::from_secs(3600), Duration::from_secs(60));
        let wait = until(now + hour);
        assert!(hour.saturating_sub(minute) < wait && wait <= hour, "{wait:?}");
        assert_eq!(until(now.saturating_sub(hour)), Duration::ZERO);
    }
}
