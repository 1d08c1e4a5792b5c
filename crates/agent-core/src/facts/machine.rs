//! Processors and memory, from the two files that tell just that: a container that sees its own share
//! of them (LXC) sees it there.

use crate::environment::World;
use crate::store::read;

/// Processors that are switched on.
pub(super) fn processors(world: &World) -> Option<usize> {
    let list = read::kernel_begin(&world.kernel_path("/sys/devices/system/cpu/online")).ok()?;
    length(&list).filter(|length| *length > 0)
}

/// Memory, in bytes.
pub(super) fn memory(world: &World) -> Option<u64> {
    memory_in(&read::kernel_begin(&world.kernel_path("/proc/meminfo")).ok()?)
}

/// How many numbers are in a list such as `0-3,6` (cpuset(7), "List format").
#[must_use]
pub fn length(list: &str) -> Option<usize> {
    list.trim()
        .split(',')
        .map(|part| {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            let (low, high): (usize, usize) = (low.parse().ok()?, high.parse().ok()?);
            high.checked_sub(low)?.checked_add(1)
        })
        .try_fold(0_usize, |sum, part| sum.checked_add(part?))
}

/// Returns the memory of `/proc/meminfo`, in bytes.
#[must_use]
pub fn memory_in(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_come_as_a_list_of_ranges() {
        for (list, expected) in [
            ("0\n", Some(1)),
            ("0-1\n", Some(2)),
            ("0-3,6,8-9\n", Some(7)),
            ("\n", None),
            ("3-1", None),
            ("0-x", None),
            ("0-18446744073709551615", None),
        ] {
            assert_eq!(length(list), expected, "{list:?}");
        }
    }

    #[test]
    fn memory_is_what_the_kernel_calls_the_total() {
        let text = "MemTotal:       24684084 kB\nMemFree: 1 kB\n";
        assert_eq!(memory_in(text), Some(24_684_084 * 1024));
        assert_eq!(memory_in("MemFree: 1 kB\n"), None);
        assert_eq!(memory_in("MemTotal: much\n"), None);
    }

    #[test]
    fn this_very_host_tells_both_and_one_without_files_none() {
        let here = World::real([]);
        let cpus = processors(&here).unwrap();
        assert!(cpus >= std::thread::available_parallelism().unwrap().get());
        assert!(memory(&here).unwrap() > 1 << 20);
        let elsewhere = World::real([]).with_kernel("/nonexistent");
        assert_eq!((processors(&elsewhere), memory(&elsewhere)), (None, None));
    }
}
