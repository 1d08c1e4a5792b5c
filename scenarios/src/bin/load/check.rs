//! The check that nothing was lost or doubled: the hub's records beside the hosts' disks.

use std::collections::BTreeSet;
use std::fmt;

use xtask::error::{Result, Stop};

use super::dialect::Dialect;
use super::host::Site;
use super::hosts::Ended;

/// The number of failures that are printed.
const SHOWN: usize = 5;

pub(crate) struct Check {
    wanted: usize,
    counts: Vec<(&'static str, usize)>,
    /// The thing that is counted beside hosts and agents, in one word.
    also: &'static str,
    failed: Vec<String>,
}

impl Check {
    /// Reads the hub's records, and tries each credential on a host's disk.
    pub(crate) async fn of<D: Dialect>(
        site: &Site<D>,
        ended: &Ended,
        wanted: usize,
    ) -> Result<Self> {
        let enrolled = &ended.enrolled;
        let records = site.dialect.records(&site.operator, enrolled).await?;
        let on_disk: BTreeSet<&str> = enrolled
            .iter()
            .map(|host| host.on_disk.agent_id.as_str())
            .collect();
        let known = on_disk.iter().filter(|id| records.known.contains(**id));
        let known = known.count();
        let mut accepted = 0;
        for host in enrolled {
            let is_accepted = site.dialect.accepts(&site.operator, &host.on_disk).await?;
            accepted += usize::from(is_accepted);
        }
        let mut counts = vec![
            ("hosts that exited with 0", enrolled.len()),
            ("agents at the hub", records.agents),
        ];
        counts.extend(records.counts);
        counts.extend([
            ("agents on the hosts' disks, no two the same", on_disk.len()),
            (records.known_to, known),
            ("credentials on disk that the hub accepts", accepted),
        ]);
        Ok(Self {
            wanted,
            counts,
            also: D::ALSO,
            failed: ended.failed.clone(),
        })
    }

    fn holds(&self) -> bool {
        self.failed.is_empty() && self.counts.iter().all(|(_, count)| *count == self.wanted)
    }

    pub(crate) fn result(self) -> Result<()> {
        if self.holds() {
            Ok(())
        } else {
            Err(Stop::Printed)
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, count) in &self.counts {
            let mark = if *count == self.wanted { "ok " } else { "BAD" };
            writeln!(f, "  {mark}{count:>9}  {what}")?;
        }
        for cause in self.failed.iter().take(SHOWN) {
            writeln!(f, "  {cause}")?;
        }
        if self.failed.len() > SHOWN {
            writeln!(f, "  and {} more", self.failed.len() - SHOWN)?;
        }
        let wanted = self.wanted;
        if self.holds() {
            write!(
                f,
                "{wanted} hosts, {wanted} agents, {wanted} {}: none lost, none twice.",
                self.also
            )
        } else {
            write!(f, "FAILED: every count has to be {wanted}.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_count_that_is_off_is_enough_to_fail() {
        let check = |last, failed: &[&str]| Check {
            wanted: 3,
            counts: vec![("a", 3), ("b", 3), ("c", last)],
            also: "uses",
            failed: failed.iter().map(|&cause| cause.to_owned()).collect(),
        };
        let good = check(3, &[]);
        assert!(
            good.to_string()
                .ends_with("3 hosts, 3 agents, 3 uses: none lost, none twice.")
        );
        assert!(good.result().is_ok());
        assert!(check(3, &["host 7"]).result().is_err());
        let bad = check(2, &[]);
        assert!(bad.to_string().contains("BAD        2  c"), "{bad}");
        assert!(
            bad.to_string()
                .ends_with("FAILED: every count has to be 3.")
        );
        assert!(bad.result().is_err());
    }
}
