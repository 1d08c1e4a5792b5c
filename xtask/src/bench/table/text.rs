//! The table for people.

use std::fmt::{self, Display};

use super::{Row, Spread, Table};
use crate::bench::enrolment::Contender;
use crate::bench::grouped;
use crate::bench::latency::shown;

const WIDTH: usize = 29;

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nOne enrolment, each in a process of its own: {}",
            self.machine
        )?;
        writeln!(
            f,
            "Medians of {} runs in turn, ± half of the middle half.\n",
            self.runs
        )?;
        let head = [
            "wall ms", "CPU ms", "MB", "syscalls", "instr.", "conn.", "trips", "packets", "bytes",
        ];
        write!(f, "{:WIDTH$}", "")?;
        for (name, width) in head.iter().zip(WIDTHS) {
            write!(f, "{name:>width$}")?;
        }
        writeln!(f)?;
        for row in &self.rows {
            writeln!(f, "{:WIDTH$}{}", row.contender.name(), row.columns())?;
        }
        writeln!(f)?;
        for cause in self.rows.iter().filter_map(Row::missing) {
            writeln!(f, "not measured: {cause}")?;
        }
        self.ratios(f)?;
        self.rest(f)
    }
}

const WIDTHS: [usize; 9] = [14, 14, 12, 10, 10, 7, 7, 9, 9];

impl Row {
    fn columns(&self) -> String {
        let spread = |spread: Option<Spread>| {
            spread.map(|Spread { median, half }| format!("{median:.2} ±{half:.2}"))
        };
        let wire = self.wire.as_ref().ok();
        let packets = self.packets.as_ref().ok();
        let count = |count: u64| grouped(usize::try_from(count).unwrap_or(usize::MAX));
        let columns = [
            spread(self.wall()),
            spread(self.cpu()),
            spread(self.memory()),
            self.syscalls.as_ref().ok().copied().map(count),
            self.instructions
                .as_ref()
                .ok()
                .map(|count| format!("{}.{:02} M", count / 1_000_000, count / 10_000 % 100)),
            wire.map(|wire| wire.connections.to_string()),
            wire.map(|wire| wire.round_trips.to_string()),
            packets.map(|(packets, _)| packets.to_string()),
            packets.map(|(_, bytes)| count(*bytes)),
        ];
        let padded: Vec<String> = columns
            .into_iter()
            .zip(WIDTHS)
            .map(|(text, width)| format!("{:>width$}", text.unwrap_or_else(|| "-".into())))
            .collect();
        padded.concat()
    }

    /// What of it could not be measured, and why.
    pub(super) fn missing(&self) -> Option<String> {
        let faults = [
            ("the row", self.taken.as_ref().err()),
            ("system calls", self.syscalls.as_ref().err()),
            ("instructions", self.instructions.as_ref().err()),
            ("round trips", self.wire.as_ref().err()),
            ("packets", self.packets.as_ref().err()),
        ];
        let (what, cause) = faults
            .into_iter()
            .find_map(|(what, cause)| Some((what, cause?)))?;
        Some(format!("{what} of {}: {cause}", self.contender.name()))
    }
}

impl Table {
    fn row(&self, contender: Contender) -> Option<&Row> {
        self.rows.iter().find(|row| row.contender == contender)
    }

    /// The agent beside the others, with what it is to keep.
    fn ratios(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wall = |contender| Some(self.row(contender)?.wall()?.median);
        let cpu = |contender| Some(self.row(contender)?.cpu()?.median);
        let memory = |contender| Some(self.row(contender)?.memory()?.median);
        let ratio = |ours: Option<f64>, theirs: Option<f64>| Some(ours? / theirs?);
        let (agent, curl) = (Contender::Agent, Contender::Curl);
        for (what, ratio, most) in [
            ("wall, agent by curl", ratio(wall(agent), wall(curl)), 0.35),
            ("CPU, agent by curl", ratio(cpu(agent), cpu(curl)), 0.30),
            (
                "memory, agent by curl",
                ratio(memory(agent), memory(curl)),
                0.35,
            ),
            (
                "wall, built-in roots by CA given",
                ratio(wall(Contender::AgentWithRoots), wall(agent)),
                1.1,
            ),
            (
                "wall, agent by floor",
                ratio(wall(agent), wall(Contender::Floor)),
                1.6,
            ),
        ] {
            if let Some(ratio) = ratio {
                let mark = if ratio <= most { "ok  " } else { "over" };
                writeln!(f, "{mark} {what:34} {ratio:.2}, at most {most:.2}")?;
            }
        }
        writeln!(f)
    }

    fn rest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        writeln!(
            f,
            "binary   {} bytes, every command included",
            grouped(size)
        )?;
        if let Some((resident, wake_ups)) = &self.idle {
            writeln!(
                f,
                "run      {resident} KiB resident, {wake_ups:.1} wake-ups a minute"
            )?;
        }
        if let Some(load) = &self.load {
            writeln!(
                f,
                "hub      {:.0} enrolments a second ({} over fresh TLS connections); hub {:.0} %, load generator {:.0} % of the processors",
                load.rate(),
                grouped(load.enrolments),
                load.used.percent(load.used.hub),
                load.used.percent(load.used.driver)
            )?;
        }
        if let Some(storm) = &self.storm {
            let [half, most, last] = storm.times.map(shown);
            writeln!(
                f,
                "storm    {} hosts, {:.0} a second; a host {half} (p50), {most} (p99), {last} (max)",
                grouped(storm.hosts),
                storm.rate
            )?;
            writeln!(
                f,
                "         {:.1} ms of processor for an agent, {:.1} ms for the hub; bound by {}",
                storm.agent_ms, storm.hub_ms, storm.bound
            )?;
        }
        Ok(())
    }
}
