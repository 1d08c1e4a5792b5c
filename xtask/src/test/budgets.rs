//! What an enrolment may cost, where noise cannot reach: what is in `xtask/budgets.toml`.

use std::fs;

use super::Count;
use crate::bench::enrolment::{self, Contender, Scene};
use crate::dist;
use crate::error::{Context, Result, Stop};
use crate::tools;

/// Relative to the root.
const FILE: &str = "xtask/budgets.toml";

pub(crate) async fn run() -> Result<Count> {
    let budgets = Budgets::read()?;
    let programs = enrolment::programs(None).await?;
    let hub = tools::build().await?.hub;
    let mut count = Count::default();
    let size = fs::metadata(&programs.agent).context(|| "the agent".to_owned())?;
    budgets.check("binary_bytes", size.len(), &mut count);
    let crates = dist::linked_crates().await?;
    budgets.check("crates", crates as u64, &mut count);

    // Alone with its hub: how many interfaces the machine has would count, too.
    let apart = Scene::apart(programs.clone(), &hub).await?;
    let calls = enrolment::syscalls(&apart, Contender::Agent).await?;
    let number = |name: &str| -> u64 {
        let of = calls.iter().filter(|(call, _)| call == name);
        of.map(|(_, count)| count).sum()
    };
    budgets.check("fsyncs", number("fsync") + number("fdatasync"), &mut count);
    budgets.check(
        "syscalls",
        calls.iter().map(|(_, count)| count).sum(),
        &mut count,
    );
    let instructions = enrolment::instructions(&apart, Contender::Agent).await?;
    budgets.check("instructions", instructions, &mut count);
    apart.end().await?;

    let scene = Scene::new(programs, &hub).await?;
    let wire = enrolment::wire(&scene, Contender::Agent).await?;
    budgets.check("connections", wire.connections, &mut count);
    budgets.check("round_trips", wire.round_trips, &mut count);
    scene.end().await?;
    Ok(count)
}

/// The file.
struct Budgets(toml::Table);

impl Budgets {
    fn read() -> Result<Self> {
        let text = fs::read_to_string(tools::root().join(FILE)).context(|| FILE.to_owned())?;
        text.parse().map(Self).context(|| FILE.to_owned())
    }

    fn check(&self, name: &str, is: u64, count: &mut Count) {
        let judged = self.judge(name, is);
        if judged.is_ok() {
            println!("{name}: {is}");
        }
        count.check(name, judged);
    }

    fn judge(&self, name: &str, is: u64) -> Result<()> {
        let most = self
            .0
            .get(name)
            .and_then(toml::Value::as_integer)
            .and_then(|most| u64::try_from(most).ok())
            .ok_or_else(|| Stop::failed(format!("{FILE} has no number {name}")))?;
        if is <= most {
            return Ok(());
        }
        Err(Stop::failed(format!(
            "it is {is}, and {most} is the budget in {FILE}. If it is worth that, raise the budget \
             there and say cause in CHANGELOG.md"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_kept_to_the_last_one() {
        let budgets = Budgets("a = 10".parse().unwrap());
        assert!(budgets.judge("a", 10).is_ok());
        let over = budgets.judge("a", 11).unwrap_err().to_string();
        assert!(
            over.contains("CHANGELOG.md") && over.contains(FILE),
            "{over}"
        );
        assert!(budgets.judge("b", 0).is_err());
    }
}
