//! Reads the data that the system has about this process. Linux only; elsewhere there is no data.

use std::fs;

/// Clock ticks per second in which the kernel gives processor time to programs (`USER_HZ`). It is part of the
/// kernel's interface: 100 on every current architecture.
const TICKS: f64 = 100.0;

/// Returns the resident set size, in bytes.
pub fn memory() -> Option<u64> {
    bytes("VmRSS:", &read("status")?)
}

/// Returns the largest resident set size since the start, in bytes.
pub fn peak_memory() -> Option<u64> {
    bytes("VmHWM:", &read("status")?)
}

/// Returns the processor time that was used since the start, in seconds.
pub fn processor_seconds() -> Option<f64> {
    seconds(&read("stat")?)
}

/// Returns how many descriptors are open.
pub fn descriptors() -> Option<u64> {
    // Reading the directory itself holds one descriptor open.
    fs::read_dir("/proc/self/fd").ok().map(|all| all.count().saturating_sub(1) as u64)
}

fn read(file: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/self/{file}")).ok()
}

fn bytes(name: &str, status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// Adds the fields 14 and 15. Field 2, the name in parentheses, may contain blanks.
fn seconds(stat: &str) -> Option<f64> {
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
        let status = "VmHWM:\t 9 kB\nVmRSS:\t    2048 kB\nVmSwap: 0 kB\n";
        assert_eq!((bytes("VmRSS:", status), bytes("VmHWM:", status)), (Some(2 << 20), Some(9 << 10)));
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 1 2 3 4 150 50 6 7 20 0 3 0 9 10 11";
        assert_eq!(seconds(stat), Some(2.0));
        assert_eq!((bytes("VmRSS:", "Name: x"), seconds("7 (a) S 1 x")), (None, Some(0.0)));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_all_of_it() {
        // The memory is read first, because it can grow meanwhile.
        let now = memory();
        assert!(now > Some(0) && peak_memory() >= now);
        assert!(descriptors() >= Some(3) && processor_seconds().is_some());
    }
}
