//! Reads the data that the system has about this process. Linux only; elsewhere there is no data.

use std::fs;

/// Clock ticks per second in which the kernel gives processor time to programs (`USER_HZ`). It is part of the
/// kernel's interface: 100 on every current architecture.
const TICKS: f64 = 100.0;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ProcessStats {
    /// Resident set size, in bytes.
    pub(super) memory: Option<u64>,
    /// Processor time, in seconds.
    pub(super) processor: Option<f64>,
    /// Number of open descriptors.
    pub(super) descriptors: Option<u64>,
}

impl ProcessStats {
    /// Reads the current values.
    pub(super) fn look() -> Self {
        let read = |file: &str| fs::read_to_string(format!("/proc/self/{file}")).ok();
        Self {
            memory: read("status").and_then(|status| memory(&status)),
            processor: read("stat").and_then(|stat| processor(&stat)),
            // Reading the directory itself holds one descriptor open.
            descriptors: fs::read_dir("/proc/self/fd").ok().map(|all| all.count().saturating_sub(1) as u64),
        }
    }
}

fn memory(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// Adds the fields 14 and 15. Field 2, the name in parentheses, may contain blanks.
fn processor(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks: Option<Vec<f64>> =
        fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse().ok()).collect();
    Some(ticks?.iter().sum::<f64>() / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read() {
        assert_eq!(memory("VmHWM:\t 9 kB\nVmRSS:\t    2048 kB\nVmSwap: 0 kB\n"), Some(2 << 20));
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 1 2 3 4 150 50 6 7 20 0 3 0 9 10 11";
        assert_eq!(processor(stat), Some(2.0));
        assert_eq!((memory("Name: x"), processor("7 (a) S 1 x")), (None, Some(0.0)));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_all_of_it() {
        let process = ProcessStats::look();
        assert!(process.memory > Some(0) && process.descriptors >= Some(3) && process.processor.is_some());
    }
}
