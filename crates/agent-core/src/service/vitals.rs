//! Processors and memory in a heartbeat.

use std::time::SystemTime;

use sysinfo::System;

use crate::clock;
use crate::environment::Environment;
use crate::facts::machine::Memory;
use crate::facts::route::Target;
use crate::facts::{Interface, interfaces_now};

/// Measures the machine, and remembers the processors' counters from one heartbeat to the next.
#[derive(Debug, Default)]
pub struct Meter {
    /// Made at the first measurement.
    system: Option<System>,
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
    /// Measures. Values that the kernel does not report are left out.
    pub fn measure(
        &mut self,
        captured_at: SystemTime,
        environment: &Environment,
        target: &Target,
    ) -> Vitals {
        if self.system.is_none() {
            self.system = System::new().ok();
        }
        let memory = self.system.as_mut().and_then(Memory::read);
        Vitals {
            captured_at: clock::rfc3339_millis(captured_at),
            cpu_usage: self.system.as_mut().and_then(cpu_usage),
            memory_used: memory.map(|memory| memory.used),
            memory_total: memory.map(|memory| memory.total),
            memory_percent: memory.and_then(|memory| percent(memory.used, memory.total)),
            interfaces: interfaces_now(environment, target),
        }
    }
}

/// Returns the busy share of all processors in percent, with two digits after the point: since the
/// measurement before; at the first one, since the start of the machine.
fn cpu_usage(system: &mut System) -> Option<f64> {
    system.refresh_cpu_usage();
    let usage = f64::from(system.global_cpu_usage());
    (!system.cpus().is_empty()).then(|| (usage * 100.0).round() / 100.0)
}

/// Returns `part` of `whole` in percent, with two digits after the point.
fn percent(part: u64, whole: u64) -> Option<f64> {
    let parts = u128::from(part.min(whole)) * 10_000;
    let parts = parts.checked_div(u128::from(whole))?;
    Some(f64::from(u32::try_from(parts).ok()?) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Busy ticks and all ticks in the first line of `/proc/stat` (proc(5)): idle and iowait are the
    /// fourth and fifth.
    fn ticks() -> (f64, f64) {
        let stat = std::fs::read_to_string("/proc/stat").unwrap();
        let columns = stat.lines().next().unwrap().split_whitespace().skip(1);
        // Guests' time is in user's and nice's already.
        let ticks: Vec<f64> = columns.take(8).map(|n| n.parse().unwrap()).collect();
        let all = ticks.iter().sum();
        (all - ticks[3] - ticks[4], all)
    }

    fn measure(meter: &mut Meter) -> Vitals {
        let environment = Environment::real([]);
        meter.measure(environment.now(), &environment, &Target::default())
    }

    #[test]
    fn usage_is_since_the_start_of_the_machine_and_then_since_the_measurement_before() {
        let mut meter = Meter::default();
        let before_first = ticks();
        let first = measure(&mut meter).cpu_usage.unwrap();
        let after_first = ticks();
        let expected = after_first.0 / after_first.1 * 100.0;
        assert!((first - expected).abs() < 1.0, "{first}, not {expected}");

        // Reading keeps a processor busy until half a second has passed.
        let processors = std::thread::available_parallelism().unwrap().get();
        let enough = f64::from(u32::try_from(processors).unwrap()) * 50.0;
        let mut before_second = ticks();
        while before_second.1 - after_first.1 < enough {
            before_second = ticks();
        }
        let second = measure(&mut meter).cpu_usage.unwrap();
        let after_second = ticks();
        let share = |busy: f64, all: f64| busy / all * 100.0;
        let least = share(
            before_second.0 - after_first.0,
            after_second.1 - before_first.1,
        );
        let most = share(
            after_second.0 - before_first.0,
            before_second.1 - after_first.1,
        );
        assert!(
            (least - 1.0..=most + 1.0).contains(&second),
            "{second}, not {least} to {most}"
        );
    }

    #[test]
    fn a_share_is_a_percentage_with_two_digits() {
        assert_eq!(percent(1, 3), Some(33.33));
        assert_eq!(percent(4, 3), Some(100.0));
        assert_eq!(percent(u64::MAX, u64::MAX), Some(100.0));
        assert_eq!(percent(0, 0), None);
    }

    #[test]
    fn memory_is_in_bytes_and_in_percent() {
        let vitals = measure(&mut Meter::default());
        let (used, total) = (vitals.memory_used.unwrap(), vitals.memory_total.unwrap());
        assert!(used < total);
        assert_eq!(vitals.memory_percent, percent(used, total));
        assert!(vitals.captured_at.ends_with('Z'));
    }
}
