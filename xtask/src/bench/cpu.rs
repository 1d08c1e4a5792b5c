//! Who used the processors, from /proc.

use std::fs;
use std::time::Duration;

use crate::error::{Context, Result, Stop};

/// A tick of /proc: Linux shows user space 100 in a second on every architecture.
const TICK: Duration = Duration::from_millis(10);

/// CPU time so far.
#[derive(Clone, Copy)]
pub(crate) struct Cpu {
    /// This program's own.
    own: Duration,
    /// That of its children that have ended.
    children: Duration,
    /// The other process's.
    other: Duration,
    /// All that was not idle, of the whole machine.
    machine: Duration,
}

/// CPU time between two moments.
pub(crate) struct Used {
    /// The driver, the agents, the hub and the whole machine, in seconds.
    pub(crate) driver: f64,
    pub(crate) agents: f64,
    pub(crate) hub: f64,
    pub(crate) machine: f64,
    /// What there was: processors times the time that went by.
    pub(crate) there_was: f64,
    /// The time that went by.
    pub(crate) time: Duration,
}

impl Cpu {
    /// As of now; `other` is a process id.
    pub(crate) fn now(other: u32) -> Result<Self> {
        let own = process("self")?;
        let all = read("/proc/stat")?;
        Ok(Self {
            own: own.own,
            children: own.children,
            other: process(&other.to_string())?.own,
            machine: busy(&all).ok_or_else(|| Stop::failed("/proc/stat is not as it should be"))?,
        })
    }

    pub(crate) fn until(self, later: Self, time: Duration) -> Used {
        let seconds = |from: Duration, to: Duration| to.saturating_sub(from).as_secs_f64();
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Used {
            driver: seconds(self.own, later.own),
            agents: seconds(self.children, later.children),
            hub: seconds(self.other, later.other),
            machine: seconds(self.machine, later.machine),
            time,
            there_was: time
                .mul_f64(f64::from(u32::try_from(processors).unwrap_or(1)))
                .as_secs_f64(),
        }
    }
}

impl Used {
    /// A share of what there was, in per cent.
    pub(crate) fn percent(&self, seconds: f64) -> f64 {
        100.0 * seconds / self.there_was.max(0.001)
    }

    /// What held it up, in words.
    pub(crate) fn bound(&self) -> String {
        let ours = self.driver + self.agents + self.hub;
        // Agents that still run are not among the children that have ended.
        let others = (self.machine - ours).max(0.0);
        let parts = [
            ("the agents", self.agents),
            ("the hub", self.hub),
            ("the driver", self.driver),
            ("agents that still run and by other work", others),
        ];
        let most = parts.iter().max_by(|a, b| a.1.total_cmp(&b.1));
        if self.percent(ours + others) >= 85.0 {
            let who = most.map_or("", |(name, _)| name);
            format!("the processors, used by {who} for the most part")
        } else {
            "waiting, not the processors: pauses before a retry, and the disk".to_owned()
        }
    }
}

struct Process {
    own: Duration,
    children: Duration,
}

fn process(id: &str) -> Result<Process> {
    let stat = read(&format!("/proc/{id}/stat"))?;
    times(&stat).ok_or_else(|| Stop::failed(format!("/proc/{id}/stat is not as it should be")))
}

/// utime, stime, cutime and cstime: fields 14 to 17 of proc(5). The name before them, in brackets,
/// may hold anything.
fn times(stat: &str) -> Option<Process> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut ticks = fields.split_whitespace().skip(11).map(str::parse::<u32>);
    let mut next = || Some(TICK * ticks.next()?.ok()?);
    Some(Process {
        own: next()? + next()?,
        children: next()? + next()?,
    })
}

/// All of the first line but idle and iowait.
fn busy(stat: &str) -> Option<Duration> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u32> = line
        .split_whitespace()
        .map_while(|n| n.parse().ok())
        .collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = ticks[..] else {
        return None;
    };
    Some(TICK * (user + nice + system + irq + softirq))
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).context(|| format!("could not read {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_behind_the_last_bracket() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 9 9 9 9 100 50 30 20 20 0 1 0 5 6 7";
        let process = times(stat).unwrap();
        assert_eq!(process.own, Duration::from_millis(1500));
        assert_eq!(process.children, Duration::from_millis(500));
        assert!(times("7 (a) S 1").is_none());
        assert_eq!(
            busy("cpu  100 10 20 5000 300 1 2 0 0 0\ncpu0 …"),
            Some(Duration::from_millis(1330))
        );
    }

    #[test]
    fn what_bounds_it_is_who_uses_most_of_full_processors() {
        let used = |agents, hub, machine| Used {
            driver: 1.0,
            agents,
            hub,
            machine,
            there_was: 100.0,
            time: Duration::from_secs(50),
        };
        assert!(used(70.0, 20.0, 95.0).bound().contains("the agents"));
        assert!(used(20.0, 70.0, 95.0).bound().contains("the hub"));
        assert!(used(20.0, 10.0, 99.0).bound().contains("other work"));
        assert!(used(20.0, 10.0, 40.0).bound().contains("waiting"));
    }
}
