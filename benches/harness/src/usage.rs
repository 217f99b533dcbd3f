//! What the kernel says of this process: its [`Memory`] and its processor time.

use std::fs;
use std::time::Duration;

/// The memory of this process.
pub struct Memory {
    /// Bytes of pages that are there (`VmRSS`).
    pub rss: f64,
    /// Bytes of page tables (`VmPTE`).
    pub page_tables: f64,
    /// Lines of `maps`: how many mappings there are.
    pub maps: f64,
}

impl Memory {
    /// The memory now.
    pub fn now() -> Memory {
        let status = read("/proc/self/status");
        Memory {
            rss: bytes(&status, "VmRSS:"),
            page_tables: bytes(&status, "VmPTE:"),
            maps: read("/proc/self/maps").lines().count() as f64,
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("cannot read {path}: {e}"))
}

/// The value of a line such as `VmRSS: 1234 kB`.
fn bytes(status: &str, name: &str) -> f64 {
    let value =
        status.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse().ok());
    value.map_or_else(|| panic!("no {name} in /proc/self/status"), |kib: f64| kib * 1024.0)
}

/// What the threads of the process that are there have used so far, in user and kernel mode, to the nanosecond.
pub fn cpu() -> Duration {
    let tasks = fs::read_dir("/proc/self/task").unwrap_or_else(|e| panic!("cannot read the threads: {e}"));
    let nanos = tasks.filter_map(|task| {
        let stat = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        stat.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_status_are_read() {
        let status = "VmHWM:\t    2048 kB\nVmRSS:\t       4 kB\nVmPTE:\t      48 kB\n";
        assert_eq!(bytes(status, "VmRSS:"), 4096.0);
        assert_eq!(bytes(status, "VmPTE:"), 49152.0);
        let now = Memory::now();
        assert!(now.rss > 0.0 && now.page_tables > 0.0 && now.maps > 0.0);
    }
}
