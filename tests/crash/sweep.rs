//! One host for each blow: the disturbed run, the undisturbed one, and what must be true then.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::TestHub;
use crate::scenario::{Scenario, must};
use crate::strace::PointedBlow;

/// Hosts at once, and hubs: a hub that has seen thousands of hosts is slower to ask.
const WORKERS: usize = 3;

/// Strikes every blow; returns how many hit.
///
/// How often a run polls its socket is not the same each time, so the last of those calls may not
/// come; nearly all of the others have to.
pub(crate) fn sweep(scenario: &Scenario, blows: &[PointedBlow]) -> usize {
    let next = AtomicUsize::new(0);
    let missed = AtomicUsize::new(0);
    let faults = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let hub = TestHub::new();
                while let Some(blow) = blows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match strike(scenario, &hub, blow) {
                        Ok(Hit::Yes) => {}
                        Ok(Hit::No) => {
                            missed.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(fault) => {
                            let mut faults = faults.lock().unwrap();
                            faults.push(format!("{}, {blow:?}: {fault}", scenario.name));
                        }
                    }
                }
            });
        }
    });
    let faults = faults.into_inner().unwrap();
    assert!(
        faults.is_empty(),
        "{} of {} blows:\n{}",
        faults.len(),
        blows.len(),
        faults.join("\n")
    );
    let missed = missed.into_inner();
    assert!(
        missed * 50 <= blows.len(),
        "{missed} of {} blows did not hit",
        blows.len()
    );
    blows.len() - missed
}

/// Whether the disturbed run came to the call.
enum Hit {
    Yes,
    No,
}

fn strike(scenario: &Scenario, hub: &TestHub, blow: &PointedBlow) -> Result<Hit, String> {
    let case = (scenario.prepare)(hub);
    let config = case.host().path("etc/monsys/agent.toml");
    let before = std::fs::read(config).ok();
    let disturbed = case.command(hub).under(&mut blow.strace()).run();
    case.is_whole(before.as_deref(), &disturbed)?;
    let hit = if blow.is_deadly() && disturbed.code == 0 {
        Hit::No
    } else {
        must(
            !blow.is_deadly() || matches!(disturbed.code, 137 | -1),
            "failed instead of being killed",
            &disturbed,
        )?;
        Hit::Yes
    };
    case.goes_on(hub)?;
    Ok(hit)
}
