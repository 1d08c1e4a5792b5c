//! Many hosts with one token, and two runs on one host.

use serde_json::json;

use crate::common::{Mint, Run, TestHost, TestHub};

#[test]
fn of_a_hundred_hosts_fifty_enrol_with_fifty_uses() {
    let hub = TestHub::new();
    let (token, id) = hub.mint(&Mint::new().with("max_uses", json!(50)));
    let hosts: Vec<TestHost> = (0..100).map(|_| TestHost::new()).collect();
    let runs: Vec<_> = hosts
        .iter()
        .map(|host| host.enrol(&hub, &token).start())
        .collect();
    let codes: Vec<i32> = runs.into_iter().map(|run| Run::of(run).code).collect();
    let count = |code| codes.iter().filter(|c| **c == code).count();
    assert_eq!((count(0), count(77)), (50, 50), "{codes:?}");
    assert_eq!(hub.agents().len(), 50);
    assert_eq!(hub.uses(&id).len(), 50);
    assert_eq!(hub.spent(), 50);
    let enrolled = |host: &&TestHost| host.path("etc/monsys/agent.toml").exists();
    assert_eq!(hosts.iter().filter(enrolled).count(), 50);
}

#[test]
fn two_concurrent_runs_on_one_host_spend_one_use() {
    for _ in 0..5 {
        let (hub, host) = (TestHub::new(), TestHost::new());
        let token = hub.token();
        // The first run is delayed in the exchange, so that the second one waits for the lock.
        hub.fault(json!({"route": "enrol", "delay_ms": 300}));
        let runs: Vec<_> = (0..3).map(|_| host.enrol(&hub, &token).start()).collect();
        for run in runs {
            Run::of(run).expect(0);
        }
        hub.expect_one_slot();
    }
}
