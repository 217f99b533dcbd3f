//! Memory as the kernel counts it: what this process uses, and what it may still have.
//!
//! All of it is read from the files that Linux keeps under `/proc` and `/sys/fs/cgroup`. What is not there, or cannot
//! be understood, counts as 0 in a [`Usage`] and as no limit in [`available`].

use std::fs;
use std::path::Path;

/// What this process uses at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Bytes of memory that are in use by the process itself (`VmRSS`).
    pub resident: u64,
    /// Bytes that the kernel needs to find the process's memory by its addresses (`VmPTE`).
    pub page_tables: u64,
    /// Ranges of addresses that the kernel tells apart. It allows a process 65,530 unless told otherwise.
    pub mappings: u64,
    /// OS threads.
    pub threads: u64,
}

impl Usage {
    /// What it is now.
    pub fn now() -> Usage {
        let status = read("/proc/self/status");
        Usage {
            resident: kilobytes(&status, "VmRSS:").unwrap_or(0),
            page_tables: kilobytes(&status, "VmPTE:").unwrap_or(0),
            mappings: read("/proc/self/maps").lines().count() as u64,
            threads: fs::read_dir("/proc/self/task").map_or(0, |threads| threads.count() as u64),
        }
    }
}

/// Bytes of a page: the kernel gives memory by pages.
pub fn page_size() -> u64 {
    kilobytes(&read("/proc/self/smaps"), "KernelPageSize:").unwrap_or(4096)
}

/// Bytes of memory that this process can still get: what the machine has available, or less where a control group (a
/// container) has a limit.
pub fn available() -> u64 {
    let machine = kilobytes(&read("/proc/meminfo"), "MemAvailable:").unwrap_or(u64::MAX);
    machine.min(left_in_groups(&read("/proc/self/cgroup"), Path::new("/sys/fs/cgroup")))
}

/// The least that any of our control groups has left. `groups` is what `/proc/self/cgroup` says, a line for each:
/// `0::/path` in version 2 of control groups, `number:memory:/path` in version 1.
fn left_in_groups(groups: &str, root: &Path) -> u64 {
    let left_of = |line: &str| {
        let (controller, path) = line.split_once(':')?.1.split_once(':')?;
        match controller {
            "" => Some(left_along(root, path, "memory.max", "memory.current")),
            "memory" => {
                Some(left_along(&root.join("memory"), path, "memory.limit_in_bytes", "memory.usage_in_bytes"))
            }
            _ => None,
        }
    };
    groups.lines().filter_map(left_of).min().unwrap_or(u64::MAX)
}

/// The least that is left in a group or in one of the groups around it, each of which is a directory.
fn left_along(root: &Path, path: &str, limit: &str, used: &str) -> u64 {
    let group = root.join(path.trim_start_matches('/'));
    let around = group.ancestors().take_while(|dir| dir.starts_with(root));
    around.filter_map(|dir| left_in(dir, limit, used)).min().unwrap_or(u64::MAX)
}

/// What is left in one group; `None` without a limit ("max").
fn left_in(dir: &Path, limit: &str, used: &str) -> Option<u64> {
    let number = |file: &str| read(dir.join(file)).trim().parse::<u64>().ok();
    // Copies of files, which count as used, but make room when it is needed. Version 1 has the inner groups' in the
    // total only.
    let stat = read(dir.join("memory.stat"));
    let files = value(&stat, "total_inactive_file").or(value(&stat, "inactive_file")).unwrap_or(0);
    Some(number(limit)?.saturating_sub(number(used)?.saturating_sub(files)))
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The number after a name at the start of a line.
fn value(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == name).then(|| words.next()?.parse().ok())?
    })
}

/// The same, where the number is in units of 1024 bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    Some(value(text, name)? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let usage = Usage::now();
        assert!(usage.resident > 100_000 && usage.page_tables > 0, "{usage:?}");
        assert!(usage.mappings > 5 && usage.threads >= 1, "{usage:?}");
        assert!(available() > 0);
        assert!(page_size() >= 4096 && page_size().is_power_of_two());
    }

    #[test]
    fn the_tightest_control_group_counts() {
        let root = std::env::temp_dir().join(format!("gort-cgroup-{}", std::process::id()));
        let put = |file: &str, text: &str| {
            let file = root.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        // Version 2: the inner group has no limit, the one around it has.
        put("a/b/memory.max", "max\n");
        put("a/b/memory.current", "100\n");
        put("a/memory.max", "1000\n");
        put("a/memory.current", "700\n");
        put("a/memory.stat", "anon 1\ninactive_file 200\n");
        // Version 1, with a path that is not seen from inside the container.
        put("memory/memory.limit_in_bytes", "400\n");
        put("memory/memory.usage_in_bytes", "500\n");
        put("memory/memory.stat", "inactive_file 1\ntotal_inactive_file 150\n");
        assert_eq!(left_in_groups("0::/a/b\n", &root), 500);
        assert_eq!(left_in_groups("9:cpu:/\n4:memory:/not/there\n0::/a/b\n", &root), 50);
        assert_eq!(left_in_groups("9:cpu:/\n0::/\n", &root), u64::MAX);
        fs::remove_dir_all(root).unwrap();
    }
}
