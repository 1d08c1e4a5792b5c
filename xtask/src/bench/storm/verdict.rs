//! Whether the storm lost or doubled anything: the hub's books beside the hosts' disks.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use super::fleet::Ended;
use crate::bench::grouped;
use crate::error::{Result, Stop};
use crate::hub::Operator;

/// So many failures are printed in full.
const SHOWN: usize = 5;

pub(crate) struct Verdict {
    wanted: usize,
    counts: [(&'static str, usize); 7],
    failed: Vec<String>,
}

/// Asks the hub for all that it knows, and for each credential on a host's disk.
pub(super) async fn ask(
    operator: &Operator,
    token_id: &str,
    fleet: &Ended,
    wanted: usize,
) -> Result<Verdict> {
    let token = operator
        .get(&format!("enrolment-tokens/{token_id}"))
        .await?;
    let audit = operator
        .get(&format!("enrolment-tokens/{token_id}/uses"))
        .await?;
    let agents = operator.get("agents").await?;
    let (audit, agents) = (ids(&audit["uses"]), ids(&agents["agents"]));
    let on_disk: BTreeSet<&str> = fleet
        .enrolled
        .iter()
        .map(|host| host.agent_id.as_str())
        .collect();
    let is_known = |id: &&str| agents.contains(id) && audit.contains(id);
    let mut live = 0;
    for host in &fleet.enrolled {
        live += usize::from(operator.knows(&host.agent_id, &host.agent_token).await?);
    }
    let uses = token["uses"].as_u64().unwrap_or_default();
    Ok(Verdict {
        wanted,
        counts: [
            ("hosts that exited with 0", fleet.enrolled.len()),
            ("agents at the hub", agents.len()),
            (
                "uses of the token",
                usize::try_from(uses).unwrap_or_default(),
            ),
            ("rows of the audit", audit.len()),
            ("agents on the hosts' disks, no two the same", on_disk.len()),
            (
                "of these, known to hub and audit",
                on_disk.into_iter().filter(is_known).count(),
            ),
            ("credentials on disk that the hub takes", live),
        ],
        failed: fleet.failed.clone(),
    })
}

/// The agent's id of each entry, doubled ones too.
fn ids(entries: &Value) -> Vec<&str> {
    let mut ids: Vec<&str> = entries
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|entry| entry["agent_id"].as_str())
        .collect();
    ids.sort_unstable();
    ids
}

impl Verdict {
    fn holds(&self) -> bool {
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
        for why in self.failed.iter().take(SHOWN) {
            writeln!(f, "  {why}")?;
        }
        if self.failed.len() > SHOWN {
            writeln!(f, "  and {} more", self.failed.len() - SHOWN)?;
        }
        let wanted = grouped(self.wanted);
        if self.holds() {
            write!(
                f,
                "{wanted} hosts, {wanted} agents, {wanted} uses: none lost, none twice."
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
            counts: [
                ("a", 3),
                ("b", 3),
                ("c", 3),
                ("d", 3),
                ("e", 3),
                ("f", 3),
                ("g", last),
            ],
            failed: failed.iter().map(|&why| why.to_owned()).collect(),
        };
        assert!(verdict(3, &[]).result().is_ok());
        assert!(verdict(3, &["host 7"]).result().is_err());
        let bad = verdict(2, &[]);
        assert!(bad.to_string().contains("BAD        2  g"), "{bad}");
        assert!(
            bad.to_string()
                .ends_with("FAILED: every count has to be 3.")
        );
        assert!(bad.result().is_err());
    }
}
