//! What the suites found: the table at the end and the plain line of counts.

use std::fmt::{self, Display};
use std::ops::AddAssign;
use std::time::Duration;

use crate::error::{Result, Stop};

/// How many tests passed, failed and were left out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Count {
    /// A suite that does not count counts as one.
    pub(crate) const ONE: Self = Self {
        passed: 1,
        failed: 0,
        skipped: 0,
    };
    const FAILED: Self = Self {
        passed: 0,
        failed: 1,
        skipped: 0,
    };
    const SKIPPED: Self = Self {
        passed: 0,
        failed: 0,
        skipped: 1,
    };

    /// Reads the last line of a script that counts: `12 passed, 0 failed`.
    pub(crate) fn from_closing_line(line: &str) -> Option<Self> {
        let (passed, failed) = line.trim().split_once(" passed, ")?;
        let failed = failed.strip_suffix(" failed")?;
        Some(Self {
            passed: passed.parse().ok()?,
            failed: failed.parse().ok()?,
            skipped: 0,
        })
    }

    /// Counts one check, and says what failed.
    pub(crate) fn check(&mut self, what: &str, outcome: Result<()>) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(cause) => {
                self.failed += 1;
                println!("FAILED: {what}: {cause}");
            }
        }
    }

    /// An error unless all passed. Which did not has been printed.
    pub(crate) fn verdict(self) -> Result<()> {
        if self.failed == 0 {
            Ok(())
        } else {
            Err(Stop::Told)
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

impl Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match &self.outcome {
            Ok(count) if count.failed == 0 => "passed",
            Ok(_) | Err(Stop::Failed(_) | Stop::Told) => "FAILED",
            Err(Stop::Missing(_)) => "NOT RUN",
        };
        write!(f, "{} {how}, {:.1} s", self.name, self.time.as_secs_f64())
    }
}

/// All that has run so far. `ci` makes a failure of a suite that could not run.
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

    /// An error if anything failed.
    pub(super) fn verdict(&self) -> Result<()> {
        self.total().verdict()
    }

    fn total(&self) -> Count {
        let mut total = Count::default();
        for ran in &self.ran {
            total += self.count(ran);
        }
        total
    }

    fn count(&self, ran: &Ran) -> Count {
        match &ran.outcome {
            Ok(count) => *count,
            Err(Stop::Missing(_)) if !self.ci => Count::SKIPPED,
            Err(_) => Count::FAILED,
        }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<12}{:>8}{:>8}{:>9}{:>11}",
            "suite", "passed", "failed", "skipped", "time"
        )?;
        for ran in &self.ran {
            let Count {
                passed,
                failed,
                skipped,
            } = self.count(ran);
            let time = format!("{:.1} s", ran.time.as_secs_f64());
            writeln!(
                f,
                "{:<12}{passed:>8}{failed:>8}{skipped:>9}{time:>11}",
                ran.name
            )?;
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
        report.add(ran("fmt", Ok(Count::ONE)));
        report.add(ran(
            "rust",
            Ok(Count {
                passed: 40,
                failed: 2,
                skipped: 0,
            }),
        ));
        assert_eq!(
            report.to_string().lines().last(),
            Some("41 passed, 2 failed")
        );
        assert!(report.verdict().is_err());
    }

    #[test]
    fn what_cannot_run_is_told_and_skipped_but_fails_in_ci() {
        for (ci, line) in [
            (false, "0 passed, 0 failed, 1 skipped"),
            (true, "0 passed, 1 failed"),
        ] {
            let mut report = Report::new(ci);
            report.add(ran("shell", Err(Stop::missing("needs shellcheck"))));
            let text = report.to_string();
            assert_eq!(text.lines().last(), Some(line));
            assert!(text.contains("NOT RUN: shell: needs shellcheck"), "{text}");
            assert_eq!(report.verdict().is_err(), ci);
        }
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
