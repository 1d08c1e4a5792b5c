//! The counts of the suites: the table at the end, and the plain last line.

use std::fmt::{self, Display};
use std::ops::AddAssign;
use std::time::Duration;

use serde_json::{Value, json};
use xtask::error::{Result, Stop};

/// The numbers of tests that passed, failed and did not run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Count {
    /// Parses the last line of a script that counts: `12 passed, 0 failed`.
    pub(crate) fn from_closing_line(line: &str) -> Option<Self> {
        let (passed, failed) = line.trim().split_once(" passed, ")?;
        let failed = failed.strip_suffix(" failed")?;
        Some(Self {
            passed: passed.parse().ok()?,
            failed: failed.parse().ok()?,
            skipped: 0,
        })
    }

    /// Counts one check, and prints the cause of a failure.
    pub(crate) fn check(&mut self, what: &str, outcome: Result<()>) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(cause) => {
                self.failed += 1;
                println!("FAILED: {what}: {cause}");
            }
        }
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

/// A suite that has run, or could not.
pub(super) struct Ran {
    pub(super) name: &'static str,
    pub(super) outcome: Result<Count>,
    pub(super) time: Duration,
}

impl Ran {
    /// Writes the outcome for the process that started this one.
    pub(super) fn to_json(&self) -> String {
        let value = match &self.outcome {
            Ok(count) => json!([count.passed, count.failed, count.skipped]),
            Err(Stop::Missing(cause)) => json!({ "missing": cause }),
            Err(stop) => json!({ "failed": stop.to_string() }),
        };
        value.to_string()
    }

    /// Reads what [`Self::to_json`] wrote.
    pub(super) fn outcome_of(json: &str) -> Result<Count> {
        let value: Value = serde_json::from_str(json).unwrap_or_default();
        if let Some(cause) = value["missing"].as_str() {
            return Err(Stop::missing(cause));
        }
        match [0, 1, 2].map(|n| value[n].as_u64()) {
            [Some(passed), Some(failed), Some(skipped)] => Ok(Count {
                passed,
                failed,
                skipped,
            }),
            _ => Err(Stop::failed(
                value["failed"]
                    .as_str()
                    .unwrap_or("it ended without counts"),
            )),
        }
    }
}

impl Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match &self.outcome {
            Ok(count) if count.failed == 0 => "passed",
            Err(Stop::Missing(_)) => "NOT RUN",
            _ => "FAILED",
        };
        write!(f, "{} {how}, {:.1} s", self.name, self.time.as_secs_f64())
    }
}

/// All suites that have run. With `ci`, a suite that could not run has failed.
pub(super) struct Report {
    ci: bool,
    ran: Vec<Ran>,
}

impl Report {
    pub(super) fn new(ci: bool) -> Self {
        Self {
            ci,
            ran: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, ran: Ran) {
        self.ran.push(ran);
    }

    /// Returns an error if anything failed.
    pub(super) fn result(&self) -> Result<()> {
        if self.total().failed == 0 {
            Ok(())
        } else {
            Err(Stop::Printed)
        }
    }

    fn total(&self) -> Count {
        let mut total = Count::default();
        for ran in &self.ran {
            total += self.count(ran);
        }
        total
    }

    fn count(&self, ran: &Ran) -> Count {
        let mut count = Count::default();
        match &ran.outcome {
            Ok(counted) => count = *counted,
            Err(Stop::Missing(_)) if !self.ci => count.skipped = 1,
            Err(_) => count.failed = 1,
        }
        count
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, columns: [&str; 4]| {
            let [passed, failed, skipped, time] = columns;
            writeln!(f, "{name:<12}{passed:>8}{failed:>8}{skipped:>9}{time:>11}")
        };
        row("suite", ["passed", "failed", "skipped", "time"])?;
        for ran in &self.ran {
            let count = self.count(ran);
            let [passed, failed, skipped] =
                [count.passed, count.failed, count.skipped].map(|n| n.to_string());
            let time = format!("{:.1} s", ran.time.as_secs_f64());
            row(ran.name, [&passed, &failed, &skipped, &time])?;
        }
        for ran in &self.ran {
            if let Err(Stop::Missing(cause)) = &ran.outcome {
                writeln!(f, "\nNOT RUN: {}: {cause}", ran.name)?;
            }
        }
        write!(f, "\n{}", self.total())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Count = Count {
        passed: 1,
        failed: 0,
        skipped: 0,
    };

    fn ran(name: &'static str, outcome: Result<Count>) -> Ran {
        Ran {
            name,
            outcome,
            time: Duration::from_millis(1250),
        }
    }

    #[test]
    fn the_last_line_is_the_sum_and_nothing_else() {
        let mut report = Report::new(false);
        report.add(ran("fmt", Ok(ONE)));
        let count = Count {
            passed: 40,
            failed: 2,
            skipped: 0,
        };
        report.add(ran("rust", Ok(count)));
        assert_eq!(
            report.to_string().lines().last(),
            Some("41 passed, 2 failed")
        );
        assert!(report.result().is_err());
    }

    #[test]
    fn a_suite_that_cannot_run_is_named_and_skipped_but_fails_in_ci() {
        for (ci, line) in [
            (false, "0 passed, 0 failed, 1 skipped"),
            (true, "0 passed, 1 failed"),
        ] {
            let mut report = Report::new(ci);
            report.add(ran("shell", Err(Stop::missing("needs shellcheck"))));
            let text = report.to_string();
            assert_eq!(text.lines().last(), Some(line));
            assert!(text.contains("NOT RUN: shell: needs shellcheck"), "{text}");
            assert_eq!(report.result().is_err(), ci);
        }
    }

    #[test]
    fn an_outcome_is_read_back() {
        let read = |outcome| Ran::outcome_of(&ran("a", outcome).to_json());
        assert_eq!(read(Ok(ONE)).unwrap(), ONE);
        assert!(matches!(read(Err(Stop::missing("a"))), Err(Stop::Missing(cause)) if cause == "a"));
        assert!(matches!(read(Err(Stop::failed("b"))), Err(Stop::Failed(cause)) if cause == "b"));
        assert!(Ran::outcome_of("").is_err());
    }

    #[test]
    fn a_closing_line_is_read_back() {
        let count = Count {
            passed: 12,
            failed: 3,
            skipped: 0,
        };
        assert_eq!(Count::from_closing_line(&count.to_string()), Some(count));
        assert_eq!(Count::from_closing_line("12 passed"), None);
    }
}
