//! The table of a storm.

use std::fmt;
use std::time::Duration;

use super::fleet::Ended;
use super::hub_log::HubLog;
use super::{DROPPED_PERCENT, KILLED_PERCENT, Options};
use crate::bench::cpu::Used;
use crate::bench::grouped;
use crate::bench::latency::Latencies;
use crate::bench::svg;

/// What the table of all tells of a storm.
pub(crate) struct Figures {
    pub(crate) hosts: usize,
    pub(crate) rate: f64,
    pub(crate) times: [Duration; 3],
    pub(crate) agent_ms: f64,
    pub(crate) hub_ms: f64,
    pub(crate) bound: String,
}

pub(crate) struct Report {
    title: String,
    at_once: u32,
    hosts: Latencies,
    hub: Latencies,
    dropped: usize,
    retries: usize,
    fixed: usize,
    killed: usize,
    victims: usize,
    full: Used,
    whole: Used,
}

impl Report {
    pub(super) fn new(options: &Options, fleet: Ended, log: HubLog) -> Self {
        Self {
            title: format!(
                "Storm of {}: {} hosts, {} at once, seed {}",
                options.dialect.name(),
                grouped(options.hosts()),
                options.at_once,
                options.seed
            ),
            at_once: options.at_once,
            dropped: log.dropped,
            hub: log.latencies,
            retries: fleet.enrolled.iter().map(|host| host.retries).sum(),
            fixed: fleet.enrolled.iter().map(|host| host.fixed).sum(),
            killed: fleet.enrolled.iter().filter(|host| host.killed).count(),
            victims: fleet.victims,
            hosts: Latencies::of(fleet.enrolled.into_iter().map(|host| host.took).collect()),
            full: fleet.full,
            whole: fleet.whole,
        }
    }

    /// What held it up, in words.
    fn bound(&self) -> String {
        let [host, hub] = [&self.hosts, &self.hub].map(|all| all.percentile(50).as_secs_f64());
        let share = hub / host.max(f64::EPSILON);
        if share < 0.5 {
            return self.full.bound();
        }
        format!(
            "the hub, which takes {:.0} % of a host's time: it waits for its commits, or for a processor",
            100.0 * share
        )
    }

    /// How many replies were lost after the commit.
    pub(crate) fn dropped(&self) -> usize {
        self.dropped
    }

    /// For the table of all: hosts a second, with the last one's retries, a host's time by
    /// percentiles (50, 99, 100), its processor time and the hub's, and what held it up.
    pub(crate) fn figures(&self) -> Figures {
        let count = f64::from(u32::try_from(self.hosts.count()).unwrap_or(u32::MAX)).max(1.0);
        Figures {
            hosts: self.hosts.count(),
            rate: count / self.whole.time.as_secs_f64().max(0.001),
            times: [50, 99, 100].map(|percent| self.hosts.percentile(percent)),
            agent_ms: 1000.0 * self.whole.agents / count,
            hub_ms: 1000.0 * self.whole.hub / count,
            bound: self.bound(),
        }
    }

    pub(super) fn svg(&self) -> String {
        svg::histograms(
            &self.title,
            &[
                ("A host, from its start to its end", &self.hosts),
                ("The hub, from a request's head to its answer", &self.hub),
            ],
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.whole.time.as_secs_f64();
        let count = u32::try_from(self.hosts.count()).unwrap_or(u32::MAX);
        let rate = f64::from(count) / seconds.max(0.001);
        // By then all had ended but those that ran beside it.
        let ended = count.saturating_sub(self.at_once);
        let full_rate = f64::from(ended) / self.full.time.as_secs_f64().max(0.001);
        writeln!(f, "{}\n", self.title)?;
        writeln!(
            f,
            "  rate       {rate:.1} hosts a second, {seconds:.1} s in all, with the last one's retries"
        )?;
        writeln!(
            f,
            "             {full_rate:.1} a second until the last host was started, after {:.1} s",
            self.full.time.as_secs_f64()
        )?;
        writeln!(
            f,
            "  dropped    {} of {} replies, after the commit ({DROPPED_PERCENT} % wanted)",
            grouped(self.dropped),
            grouped(self.hub.count())
        )?;
        writeln!(
            f,
            "  killed     {} of {} chosen hosts ({KILLED_PERCENT} %), which were started again",
            grouped(self.killed),
            grouped(self.victims)
        )?;
        writeln!(
            f,
            "  retries    {} by the hosts themselves",
            grouped(self.retries)
        )?;
        writeln!(
            f,
            "  fixed     {} by the operator, as the refusals told to",
            grouped(self.fixed)
        )?;
        let (full, whole) = (&self.full, &self.whole);
        writeln!(
            f,
            "  CPU        agents {:.0} %, hub {:.0} %, driver {:.0} %, whole machine {:.0} %",
            full.percent(full.agents),
            full.percent(full.hub),
            full.percent(full.driver),
            full.percent(full.machine)
        )?;
        writeln!(
            f,
            "             until then; in all, a host took {:.1} ms, and the hub {:.1} ms for each",
            1000.0 * whole.agents / f64::from(count.max(1)),
            1000.0 * whole.hub / f64::from(count.max(1))
        )?;
        writeln!(f, "  bound by   {}\n", self.bound())?;
        let head = ["p50", "p90", "p99", "max"].map(|name| format!("{name:>10}"));
        writeln!(f, "  {:8}{}", "", head.concat())?;
        writeln!(f, "  {:8}{}", "host", self.hosts.summary())?;
        writeln!(f, "  {:8}{}", "hub", self.hub.summary())?;
        writeln!(f, "\n  hosts, from start to end\n{}", self.hosts)?;
        write!(
            f,
            "  hub, from a request's head to its answer\n{}",
            self.hub
        )
    }
}
