//! The rates and times of a load test.

use std::fmt;
use std::time::Duration;

use super::hosts::Ended;
use super::hub_log::HubLog;
use super::percentile::percentile;
use super::{DROPPED_PERCENT, KILLED_PERCENT, Options};

pub(crate) struct Report {
    title: String,
    /// From a host's first start to its last end.
    hosts: Vec<Duration>,
    /// From the head of a request to its answer.
    hub: Vec<Duration>,
    /// Replies that were lost after the commit.
    pub(crate) dropped: usize,
    retries: usize,
    fixed: usize,
    killed: usize,
    chosen: usize,
    time: Duration,
}

impl Report {
    pub(crate) fn new(options: &Options, ended: &Ended, log: HubLog) -> Self {
        let enrolled = &ended.enrolled;
        Self {
            title: format!(
                "{} hosts of {}, {} at once, seed {}",
                options.hosts,
                options.dialect.text(),
                options.at_once,
                options.seed
            ),
            dropped: log.dropped,
            retries: enrolled.iter().map(|host| host.retries).sum(),
            fixed: enrolled.iter().map(|host| host.fixed).sum(),
            killed: enrolled.iter().filter(|host| host.killed).count(),
            chosen: ended.chosen,
            hosts: sorted(enrolled.iter().map(|host| host.took).collect()),
            hub: sorted(log.times),
            time: ended.time,
        }
    }
}

fn sorted(mut times: Vec<Duration>) -> Vec<Duration> {
    times.sort_unstable();
    times
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.time.as_secs_f64();
        let count = f64::from(u32::try_from(self.hosts.len()).unwrap_or(u32::MAX));
        writeln!(f, "{}", self.title)?;
        writeln!(
            f,
            "  rate     {:.1} hosts per second, {seconds:.1} s in all",
            count / seconds.max(0.001)
        )?;
        writeln!(
            f,
            "  dropped  {} of {} replies, after the commit ({DROPPED_PERCENT} % wanted)",
            self.dropped,
            self.hub.len()
        )?;
        writeln!(
            f,
            "  killed   {} of {} chosen hosts ({KILLED_PERCENT} %), and started again",
            self.killed, self.chosen
        )?;
        writeln!(
            f,
            "  retries  {} by the hosts, {} fixes by the operator",
            self.retries, self.fixed
        )?;
        for (name, times) in [("host", &self.hosts), ("hub", &self.hub)] {
            let [p50, p90, p99, most] = [50, 90, 99, 100].map(|percent| percentile(times, percent));
            writeln!(
                f,
                "  {name:8} p50 {p50:.1?}, p90 {p90:.1?}, p99 {p99:.1?}, longest {most:.1?}"
            )?;
        }
        Ok(())
    }
}
