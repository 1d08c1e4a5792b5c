//! The enrolments in the hub's log: the time of each, and the number of lost replies.

use std::fs;
use std::path::Path;
use std::time::Duration;

use xtask::error::{Context, Result};

pub(crate) struct HubLog {
    /// From the head of a request to its answer, without the network.
    pub(crate) times: Vec<Duration>,
    /// Replies that were dropped after the commit.
    pub(crate) dropped: usize,
}

impl HubLog {
    /// Reads the log; `is_enrolment` selects the calls by their path.
    pub(crate) fn read(path: &Path, is_enrolment: fn(&str) -> bool) -> Result<Self> {
        let text =
            fs::read_to_string(path).context(|| format!("could not read {}", path.display()))?;
        Ok(Self::parse(&text, is_enrolment))
    }

    fn parse(text: &str, is_enrolment: fn(&str) -> bool) -> Self {
        let calls = text.lines().filter_map(call);
        let calls: Vec<_> = calls.filter(|(path, ..)| is_enrolment(path)).collect();
        Self {
            dropped: calls
                .iter()
                .filter(|(_, status, _)| *status == "reset")
                .count(),
            times: calls.into_iter().map(|(.., time)| time).collect(),
        }
    }
}

/// `… INFO POST /api/v1/agents/enrol 201 127.0.0.1 1.8ms`: the path, the status and the time.
fn call(line: &str) -> Option<(&str, &str, Duration)> {
    let (_, rest) = line.split_once(" POST ")?;
    let mut words = rest.split_whitespace();
    let (path, status) = (words.next()?, words.next()?);
    let (_source, time) = (words.next()?, words.next()?);
    Some((path, status, duration(time)?))
}

/// Parses the `Debug` text of a `Duration`.
fn duration(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| c != '.' && !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit);
    let seconds = match unit {
        "ns" => 1e-9,
        "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enrolments_are_found_among_the_rest() {
        let log = HubLog::parse(
            "2026-01-01T00:00:00Z  INFO fault route=Enrol\n\
             2026-01-01T00:00:00Z  INFO POST /api/v1/agents/enrol reset 127.0.0.1 2.0ms\n\
             2026-01-01T00:00:00Z  INFO POST /api/v1/agents/enrol 201 127.0.0.1 950.5µs\n\
             2026-01-01T00:00:00Z  INFO POST /api/v1/faults 201 127.0.0.1 3.0ms\n\
             2026-01-01T00:00:00Z  INFO GET /api/v1/agents 200 127.0.0.1 1.2s\n",
            |path| path == "/api/v1/agents/enrol",
        );
        assert_eq!(log.dropped, 1);
        let times = [2_000_000, 950_500].map(Duration::from_nanos);
        assert_eq!(log.times, times);
    }
}
