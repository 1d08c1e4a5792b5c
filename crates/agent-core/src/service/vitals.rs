//! What a heartbeat tells: processors and memory as the kernel counts them.

use std::time::SystemTime;

use crate::clock;
use crate::environment::World;
use crate::facts::route::Target;
use crate::facts::{Interface, interfaces_now};
use crate::store::read;

/// Reads `/proc`, and remembers the processors' counters from one heartbeat to the next.
#[derive(Debug, Default)]
pub struct Meter {
    before: Option<Processors>,
}

/// Ticks of all processors since the start of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processors {
    /// Ticks that were busy.
    pub busy: u64,
    /// All ticks.
    pub all: u64,
}

/// Memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes that are not available to programs.
    pub used: u64,
    /// All bytes.
    pub total: u64,
}

/// Measurements of the host at one moment, as a heartbeat carries them.
#[derive(Debug)]
pub struct Vitals {
    /// When, RFC 3339.
    pub captured_at: String,
    /// Share of all processors that was busy since the sign before, 0 to 100.
    pub cpu_usage: Option<f64>,
    /// Memory that is not available to programs, in bytes.
    pub memory_used: Option<u64>,
    /// Memory, in bytes.
    pub memory_total: Option<u64>,
    /// Share of the memory that is used, 0 to 100.
    pub memory_percent: Option<f64>,
    /// Network interfaces, by name.
    pub interfaces: Vec<Interface>,
}

impl Meter {
    /// Measures. What the kernel does not tell is left out.
    pub fn measure(&mut self, captured_at: SystemTime, world: &World, target: &Target) -> Vitals {
        let text = |path| read::text(&world.kernel_path(path)).ok();
        let memory = text("/proc/meminfo").and_then(|text| Memory::of(&text));
        Vitals {
            captured_at: clock::rfc3339_millis(captured_at),
            cpu_usage: text("/proc/stat")
                .and_then(|text| Processors::of(&text))
                .and_then(|now| self.usage(now)),
            memory_used: memory.map(|memory| memory.used),
            memory_total: memory.map(|memory| memory.total),
            memory_percent: memory.and_then(|memory| percent(memory.used, memory.total)),
            interfaces: interfaces_now(world, target),
        }
    }

    /// Since the measurement before; at the first one, since the start of the machine.
    fn usage(&mut self, now: Processors) -> Option<f64> {
        let none = Processors { busy: 0, all: 0 };
        let before = self.before.replace(now).unwrap_or(none);
        percent(
            now.busy.checked_sub(before.busy)?,
            now.all.checked_sub(before.all)?,
        )
    }
}

impl Processors {
    /// From the first line of `/proc/stat` (proc(5)): idle and iowait are the fourth and fifth.
    pub fn of(stat: &str) -> Option<Self> {
        let line = stat.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = line
            .split_whitespace()
            // Guests' time is in user's and nice's already.
            .take(8)
            .map_while(|ticks| ticks.parse().ok())
            .collect();
        let [user, nice, system, idle, rest @ ..] = &ticks[..] else {
            return None;
        };
        let waits = rest.first().copied().unwrap_or(0);
        let busy = [user, nice, system].into_iter().chain(rest.iter().skip(1));
        let busy = busy.copied().try_fold(0, u64::checked_add)?;
        Some(Self {
            busy,
            all: busy.checked_add(*idle)?.checked_add(waits)?,
        })
    }
}

impl Memory {
    /// From `/proc/meminfo`. Kernels before 3.14 do not tell what is available.
    #[must_use]
    pub fn of(meminfo: &str) -> Option<Self> {
        let bytes = |name: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
            let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
            kibibytes.checked_mul(1024)
        };
        let total = bytes("MemTotal:")?;
        let available = bytes("MemAvailable:").or_else(|| {
            let buffers = bytes("Buffers:").unwrap_or(0);
            let cached = bytes("Cached:").unwrap_or(0);
            bytes("MemFree:")?.checked_add(buffers)?.checked_add(cached)
        })?;
        Some(Self {
            used: total.saturating_sub(available),
            total,
        })
    }
}

/// With two digits behind the point; `None` of nothing.
fn percent(part: u64, whole: u64) -> Option<f64> {
    if whole == 0 {
        return None;
    }
    let parts = u128::from(part.min(whole)) * 10_000 / u128::from(whole);
    Some(f64::from(u32::try_from(parts).ok()?) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 2 3\nintr 1\n";

    #[test]
    fn usage_is_what_was_not_idle_since_the_time_before() {
        let mut meter = Meter::default();
        let first = Processors::of(STAT).unwrap();
        assert_eq!(
            first,
            Processors {
                busy: 150,
                all: 1000
            }
        );
        assert_eq!(meter.usage(first), Some(15.0));
        let later = Processors::of("cpu  150 0 100 800 50 50 50 0 20 20").unwrap();
        assert_eq!(meter.usage(later), Some(100.0));
        assert_eq!(meter.usage(later), None, "no tick has passed");
        assert_eq!(meter.usage(first), None, "a counter went back");
        let most = format!("cpu  {0} {0} 0 {0}", u64::MAX);
        for text in ["", "cpu", "cpu  1 2", "cpu  a b c d", &most] {
            assert_eq!(Processors::of(text), None, "{text:?}");
        }
    }

    #[test]
    fn memory_is_used_unless_it_is_available() {
        let new = "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable:  600 kB\nCached: 450 kB\n";
        let memory = Memory::of(new).unwrap();
        assert_eq!((memory.used, memory.total), (400 * 1024, 1000 * 1024));
        assert_eq!(percent(memory.used, memory.total), Some(40.0));
        let old = "MemTotal: 1000 kB\nMemFree: 100 kB\nBuffers: 50 kB\nCached: 250 kB\n";
        assert_eq!(Memory::of(old).unwrap().used, 600 * 1024);
        assert_eq!(Memory::of("MemTotal: 1000 kB\n"), None);
        let most = u64::MAX / 1024;
        let old = format!("MemTotal: 1 kB\nMemFree: {most} kB\nBuffers: {most} kB\n");
        assert_eq!(Memory::of(&old), None);
    }

    #[test]
    fn this_very_host_can_be_measured() {
        let vitals =
            Meter::default().measure(World::real([]).now(), &World::real([]), &Target::default());
        let share = 0.0..=100.0;
        assert!(share.contains(&vitals.cpu_usage.unwrap()));
        assert!(share.contains(&vitals.memory_percent.unwrap()));
        assert!(vitals.memory_used.unwrap() < vitals.memory_total.unwrap());
        assert!(vitals.captured_at.ends_with('Z'));
        let elsewhere = World::real([]).with_kernel("/nonexistent");
        let vitals = Meter::default().measure(elsewhere.now(), &elsewhere, &Target::default());
        assert_eq!((vitals.cpu_usage, vitals.memory_used), (None, None));
    }
}
