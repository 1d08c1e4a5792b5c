//! Processors and memory, as `/proc` has them: a container that sees its own share of them there (LXC)
//! reports its own share.

use sysinfo::{CpuRefreshKind, MemoryRefreshKind, System};

/// The size of the machine. `None` is what the kernel does not report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MachineSize {
    /// Processors that are online.
    pub(super) processors: Option<usize>,
    pub(super) memory: Option<Memory>,
}

/// Memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Memory that the kernel does not call available.
    pub(crate) used: u64,
    /// All memory.
    pub(crate) total: u64,
}

impl MachineSize {
    /// Reads the size of this machine.
    pub(super) fn read() -> Self {
        let Ok(mut system) = System::new() else {
            return Self::default();
        };
        system.refresh_cpu_list(CpuRefreshKind::nothing());
        Self {
            processors: Some(system.cpus().len()).filter(|count| *count > 0),
            memory: Memory::read(&mut system),
        }
    }
}

impl Memory {
    /// Reads the memory by `system`. Returns `None` where the kernel reports none.
    pub(crate) fn read(system: &mut System) -> Option<Self> {
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let total = system.total_memory();
        (total > 0).then(|| Self {
            // `System::used_memory` subtracts without a check, and a container can report more
            // available memory than it has.
            used: total.saturating_sub(system.available_memory()),
            total,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line of `/proc/meminfo`, in bytes.
    fn meminfo(name: &str) -> u64 {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kibibytes = line.unwrap().split_whitespace().next().unwrap();
        kibibytes.parse::<u64>().unwrap() * 1024
    }

    #[test]
    fn processors_are_those_that_are_online() {
        let stat = std::fs::read_to_string("/proc/stat").unwrap();
        let lines = stat.lines().filter(|line| line.starts_with("cpu"));
        let online = lines.filter(|line| !line.starts_with("cpu ")).count();
        assert_eq!(MachineSize::read().processors, Some(online));
        assert!(online >= std::thread::available_parallelism().unwrap().get());
    }

    #[test]
    fn memory_is_used_unless_it_is_available() {
        let memory = MachineSize::read().memory.unwrap();
        assert_eq!(memory.total, meminfo("MemTotal:"));
        // Other programs take and free some between the two readings.
        let used = memory.total - meminfo("MemAvailable:");
        assert!(
            memory.used.abs_diff(used) < memory.total / 10,
            "{memory:?}, then {used} used"
        );
    }
}
