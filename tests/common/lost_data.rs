//! The ways in which a hub loses its data, and the return of its hosts: the same agents, each once, without a use.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{HubProcess, Mint};

/// The hub's log before the id of a readmitted agent.
pub(crate) const RETURN: &str = " readmitted agent=";

/// Hosts that are enrolled at one hub, and whose services run under a service manager.
pub(crate) trait Hosts {
    /// Returns the ids of the agents, as they were at the enrolment.
    fn ids(&self) -> BTreeSet<String>;

    /// Returns the number of privileged steps that were requested and have ended, for each host among `ids`.
    fn tries(&self, ids: &BTreeSet<String>) -> Vec<usize>;

    /// Enrols every second host again by force; returns their ids.
    fn enrol_half_by_force(&self, token: &str) -> BTreeSet<String>;

    /// Polls until `condition` is true.
    fn until(&self, what: &str, condition: &mut dyn FnMut() -> bool);
}

/// The database is deleted. Without the operator's readmission, no host comes back; with it, all do.
pub(crate) fn database_lost(hub: &mut HubProcess, hosts: &impl Hosts) {
    let ids = hosts.ids();
    let before = hosts.tries(&ids);
    hub.kill();
    hub.lose_database();
    hub.start();
    until_all_have_tried(hosts, &ids, &before);
    assert_eq!(hub.agents(), Vec::<Value>::new());

    hub.open_readmission();
    expect_back(hub, hosts, &BTreeMap::new());
    assert_eq!(hub.get("readmission")["readmitted"], hosts.ids().len());
    hub.close_readmission();
    println!(
        "database lost: {} agents are back, 0 uses",
        hosts.ids().len()
    );
}

/// The database is yesterday's copy, and half of the hosts have got another credential since.
pub(crate) fn older_copy(hub: &mut HubProcess, hosts: &impl Hosts) {
    let folder = tempfile::tempdir().unwrap();
    hub.kill();
    hub.save_database(folder.path());
    hub.start();
    let token = Mint::new().with("max_uses", hosts.ids().len().into());
    let half = hosts.enrol_half_by_force(&hub.mint(&token).0);
    let before = hosts.tries(&half);
    hub.kill();
    hub.restore_database(folder.path());
    hub.start();
    let are_back = returns(hub).len();
    until_all_have_tried(hosts, &half, &before);
    assert_eq!(returns(hub).len(), are_back);

    let before = heartbeats(hub);
    hub.open_readmission();
    expect_back(hub, hosts, &before);
    let back: BTreeSet<_> = returns(hub).into_iter().skip(are_back).collect();
    assert_eq!(back, half);
    hub.close_readmission();
    println!("yesterday's copy: {} agents are back", half.len());
}

/// Another hub has the receipt key, and neither the database nor the revocations.
pub(crate) fn another_hub(hub: &mut HubProcess, hosts: &impl Hosts) {
    let ids = hosts.ids();
    let before = hosts.tries(&ids);
    hub.replace();
    until_all_have_tried(hosts, &ids, &before);
    assert_eq!(hub.agents(), Vec::<Value>::new());
    let mut door = json!({"open_for_secs": 3600, "max_agents": 100_000});
    let (status, answer) = hub.send(Method::POST, "readmission", Some(door.clone()));
    assert_eq!(status, StatusCode::CONFLICT, "{answer}");
    assert!(answer.contains("revocations_lost"), "{answer}");

    door["accept_lost_revocations"] = json!(true);
    hub.post("readmission", door);
    expect_back(hub, hosts, &BTreeMap::new());
    println!("another hub: {} agents are back", hosts.ids().len());
}

/// The database is deleted again, and the hub is killed at commit after commit while the hosts return.
pub(crate) fn killed_at_commits(hub: &mut HubProcess, hosts: &impl Hosts, commits: usize) {
    hub.kill();
    hub.lose_database();
    hub.start();
    hub.open_readmission();
    hub.kill();
    for number in 1..=commits {
        hub.run_to_commit(number);
    }
    hub.start();
    expect_back(hub, hosts, &BTreeMap::new());
    println!(
        "killed at commits 1 to {commits}: {} agents are back",
        hosts.ids().len()
    );
}

/// Waits until each host has sent a heartbeat that is not in `before`. Checks that they are the same agents, and that
/// no use was spent.
#[track_caller]
fn expect_back(hub: &HubProcess, hosts: &impl Hosts, before: &BTreeMap<String, Value>) {
    hosts.until("all agents", &mut || {
        let now = heartbeats(hub);
        let fresh = now.iter().filter(|(id, at)| before.get(*id) != Some(at));
        fresh.count() == hosts.ids().len()
    });
    let agents = hub.agents();
    let ids: BTreeSet<_> = agents
        .iter()
        .map(|agent| agent["agent_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids, hosts.ids());
    assert_eq!((agents.len(), hub.spent()), (hosts.ids().len(), 0));
}

/// Returns the time of the last heartbeat of each agent that has sent one.
pub(crate) fn heartbeats(hub: &HubProcess) -> BTreeMap<String, Value> {
    let agents = hub.agents().into_iter();
    agents
        .filter(|agent| agent["last_heartbeat"].is_object())
        .map(|agent| {
            let id = agent["agent_id"].as_str().unwrap().to_owned();
            (id, agent["last_heartbeat"]["captured_at"].clone())
        })
        .collect()
}

/// Returns the ids of the agents that the hub has readmitted, in order, from its log.
fn returns(hub: &HubProcess) -> Vec<String> {
    let log = hub.log();
    let ids = log.split(RETURN).skip(1);
    ids.map(|rest| rest.split(' ').next().unwrap().to_owned())
        .collect()
}

/// Waits until each host among `ids` has tried once more than in `before`.
#[track_caller]
fn until_all_have_tried(hosts: &impl Hosts, ids: &BTreeSet<String>, before: &[usize]) {
    hosts.until("a try of each host", &mut || {
        let now = hosts.tries(ids);
        now.iter().zip(before).all(|(now, before)| now > before)
    });
}
