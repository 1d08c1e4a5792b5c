//! One host for each blow: the disturbed run, the undisturbed one, and what must be true then.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::{MODES, Run, TestHub};
use crate::scenario::{Case, Scenario};
use crate::strace::{PointedBlow, enrol, enrol_again};

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
    let case = scenario.prepare(hub);
    let before = case.host.files("etc/monsys");
    let disturbed = enrol(&case, hub).under(&mut blow.strace()).run();
    is_whole(&case, &before, &disturbed)?;
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

    let again = enrol_again(&case, hub).run();
    must(again.code == 0, "the next run failed", &again)?;
    is_complete(&case, hub)?;
    Ok(hit)
}

/// agent.toml is as it was, or has all of the new credential.
fn is_whole(
    case: &Case,
    before: &[(std::path::PathBuf, Vec<u8>)],
    run: &Run,
) -> Result<(), String> {
    let path = case.host.path("etc/monsys/agent.toml");
    let now = std::fs::read(&path).ok();
    let then = before.iter().find(|(p, _)| *p == path).map(|(_, b)| b);
    let is_new = now
        .as_deref()
        .map(String::from_utf8_lossy)
        .is_some_and(|text| {
            let has = |key: &str| text.contains(&format!("{key} = "));
            ["hub_url", "agent_id", "agent_token", "tags"]
                .iter()
                .all(|key| has(key))
        });
    must(now.as_ref() == then || is_new, "agent.toml is torn", run)?;
    must(
        run.code != 0 || (is_new && now.as_ref() != then),
        "success without a credential",
        run,
    )
}

fn is_complete(case: &Case, hub: &TestHub) -> Result<(), String> {
    let host = &case.host;
    for (path, mode) in MODES {
        if host.mode(path) != mode {
            return Err(format!("{path} has mode {:o}", host.mode(path)));
        }
    }
    let mut names: Vec<String> = ["etc/monsys", "var/lib/monsys"]
        .iter()
        .flat_map(|folder| host.files(folder))
        .map(|(path, _)| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let expected = [
        "agent-id",
        "agent-signing.key",
        "agent.toml",
        "lock",
        "state.json",
    ];
    if names != expected {
        return Err(format!("stray or missing files: {names:?}"));
    }
    let text = host.agent_toml();
    let last = format!("\"{}\"]", case.last_tag);
    if !text.contains(&last) {
        return Err(format!("tags are not those asked for:\n{text}"));
    }
    let id = host.key("agent_id").unwrap();
    let id_file = std::fs::read_to_string(host.path("var/lib/monsys/agent-id")).unwrap();
    if id_file.trim() != id {
        return Err(format!("agent-id {id_file:?} is not {id}"));
    }
    if let Some((token, expected)) = &case.counted {
        let spent = hub.get(&format!("enrolment-tokens/{token}"))["uses"].clone();
        let rows = hub.uses(token);
        if spent != *expected || rows.len() as u64 != *expected || rows[0]["agent_id"] != *id {
            return Err(format!("{spent} uses, audit {rows:?}, agent {id}"));
        }
    }
    // Key and credential belong together: a signed call with both is accepted.
    let proof = host.agent(&["enrol", "--tag", "proof"]).run();
    must(proof.code == 0, "the credential does not work", &proof)
}

fn must(holds: bool, fault: &str, run: &Run) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(format!(
            "{fault}: code {}\n{}{}",
            run.code, run.stdout, run.stderr
        ))
    }
}
