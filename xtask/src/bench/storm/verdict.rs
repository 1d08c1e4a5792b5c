//! Whether the storm lost or doubled anything: the hub's books beside the hosts' disks.

use std::collections::BTreeSet;
use std::fmt;

use super::fleet::Ended;
use super::host::Site;
use super::system::System;
use crate::bench::grouped;
use crate::error::{Result, Stop};

/// So many failures are printed in full.
const SHOWN: usize = 5;

pub(crate) struct Verdict {
    wanted: usize,
    counts: Vec<(&'static str, usize)>,
    /// What is counted beside hosts and agents, in one word.
    also: &'static str,
    failed: Vec<String>,
}

/// Asks the hub for all that it knows, and for each credential on a host's disk.
pub(super) async fn ask<S: System>(
    site: &Site<S>,
    fleet: &Ended,
    wanted: usize,
) -> Result<Verdict> {
    let books = site.system.books(&site.operator, &fleet.enrolled).await?;
    let on_disk: BTreeSet<&str> = fleet
        .enrolled
        .iter()
        .map(|host| host.held.agent_id.as_str())
        .collect();
    let known = on_disk.iter().filter(|id| books.known.contains(**id));
    let known = known.count();
    let mut live = 0;
    for host in &fleet.enrolled {
        live += usize::from(site.system.takes(&site.operator, &host.held).await?);
    }
    let mut counts = vec![
        ("hosts that exited with 0", fleet.enrolled.len()),
        ("agents at the hub", books.agents),
    ];
    counts.extend(books.counts);
    counts.extend([
        ("agents on the hosts' disks, no two the same", on_disk.len()),
        (books.known_to, known),
        ("credentials on disk that the hub takes", live),
    ]);
    Ok(Verdict {
        wanted,
        counts,
        also: S::ALSO,
        failed: fleet.failed.clone(),
    })
}

impl Verdict {
    pub(crate) fn holds(&self) -> bool {
        self.failed.is_empty() && self.counts.iter().all(|(_, count)| *count == self.wanted)
    }

    pub(crate) fn result(self) -> Result<()> {
        if self.holds() {
            Ok(())
        } else {
            Err(Stop::Told)
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, count) in &self.counts {
            let mark = if *count == self.wanted { "ok " } else { "BAD" };
            writeln!(f, "  {mark}{:>9}  {what}", grouped(*count))?;
        }
        for cause in self.failed.iter().take(SHOWN) {
            writeln!(f, "  {cause}")?;
        }
        if self.failed.len() > SHOWN {
            writeln!(f, "  and {} more", self.failed.len() - SHOWN)?;
        }
        let wanted = grouped(self.wanted);
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
        let verdict = |last, failed: &[&str]| Verdict {
            wanted: 3,
            counts: vec![("a", 3), ("b", 3), ("c", last)],
            also: "uses",
            failed: failed.iter().map(|&cause| cause.to_owned()).collect(),
        };
        let good = verdict(3, &[]);
        assert!(
            good.to_string()
                .ends_with("3 hosts, 3 agents, 3 uses: none lost, none twice.")
        );
        assert!(good.result().is_ok());
        assert!(verdict(3, &["host 7"]).result().is_err());
        let bad = verdict(2, &[]);
        assert!(bad.to_string().contains("BAD        2  c"), "{bad}");
        assert!(
            bad.to_string()
                .ends_with("FAILED: every count has to be 3.")
        );
        assert!(bad.result().is_err());
    }
}
