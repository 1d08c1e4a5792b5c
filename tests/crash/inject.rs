//! One host for each injection: the interrupted run, the next run, and the checks after each.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::TestHub;
use crate::scenario::{Scenario, ensure};
use crate::strace::PlacedInjection;

/// Concurrent hosts, each with its own hub: a hub with thousands of hosts responds more slowly.
const WORKERS: usize = 3;
/// The most runs for one injection: how often a run reads from the network depends on how the bytes arrive, so the
/// last of these calls is in some runs only.
const TRIES: usize = 3;

/// Runs every injection; returns how many took effect.
///
/// The number of polls of the socket differs between runs, so the last of these calls may not happen.
/// At least 98 % of the injections have to take effect.
pub(crate) fn inject_all(scenario: &Scenario, injections: &[PlacedInjection]) -> usize {
    let next = AtomicUsize::new(0);
    let missed = AtomicUsize::new(0);
    let faults = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let hub = TestHub::new();
                while let Some(injection) = injections.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut tries = (0..TRIES).map(|_| inject(scenario, &hub, injection));
                    let hit = tries.find(|outcome| !matches!(outcome, Ok(Hit::No)));
                    match hit.unwrap_or(Ok(Hit::No)) {
                        Ok(Hit::Yes) => {}
                        Ok(Hit::No) => {
                            missed.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(fault) => {
                            let mut faults = faults.lock().unwrap();
                            faults.push(format!("{}, {injection:?}: {fault}", scenario.name));
                        }
                    }
                }
            });
        }
    });
    let faults = faults.into_inner().unwrap();
    assert!(
        faults.is_empty(),
        "{} of {} injections:\n{}",
        faults.len(),
        injections.len(),
        faults.join("\n")
    );
    let missed = missed.into_inner();
    assert!(
        missed * 50 <= injections.len(),
        "{missed} of {} injections did not hit",
        injections.len()
    );
    injections.len() - missed
}

/// Outcome of an injection: the run did or did not reach the system call.
enum Hit {
    Yes,
    No,
}

fn inject(scenario: &Scenario, hub: &TestHub, injection: &PlacedInjection) -> Result<Hit, String> {
    let case = (scenario.prepare)(hub);
    let config = case.host().path("etc/monsys/agent.toml");
    let before = std::fs::read(config).ok();
    let interrupted = case.command(hub).under(&mut injection.strace()).run();
    case.check_interrupted(before.as_deref(), &interrupted)?;
    let hit = if injection.kills() && interrupted.code == 0 {
        Hit::No
    } else {
        ensure(
            !injection.kills() || matches!(interrupted.code, 137 | -1),
            "failed instead of being killed",
            &interrupted,
        )?;
        Hit::Yes
    };
    case.check_next_run(hub)?;
    Ok(hit)
}
