//! Faults of the link between host and hub: packet loss, low rate, link down, no response, no route; and
//! IPv6 without IPv4.

use std::net::TcpListener;

use serde_json::json;

use crate::common::{TestHost, TestHub};
use crate::eventually;
use crate::network::{IPV4, IPV6, Network};
use crate::running_agent::RunningAgent;
use crate::topology::Topology;

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_link_that_loses_every_fourth_packet_is_enough() {
    let topology = Topology::direct(IPV4);
    topology.network.drop_packets("numgen inc mod 4 == 0");
    let run = topology.run(topology.enrol(&[]));
    topology.expect_enrolled(run);
    assert_ne!(topology.network.dropped_packets("input"), 0);
    assert_ne!(topology.network.dropped_packets("output"), 0);
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_slow_link_is_enough() {
    let topology = Topology::direct(IPV4);
    topology.network.limit_rate();
    let run = topology.run(topology.enrol(&[]));
    let run = topology.expect_enrolled(run);
    assert!(!run.stderr.contains("try 1"), "{}", run.stderr);
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn loss_of_large_packets_is_reported_and_waited_for() {
    let topology = Topology::direct(IPV4);
    // TCP connects, but no certificate arrives.
    topology.network.drop_packets("meta length > 600");
    let run = topology.run(topology.enrol(&["--wait", "3s"]));
    topology.expect_rejected(run, 69, &["no answer in time", "packets are lost"]);
    assert_ne!(topology.network.dropped_packets("output"), 0);

    let mut agent = topology.start(topology.enrol(&[]));
    agent.wait_for("no connection within 10 s");
    topology.network.drop_no_packets();
    topology.expect_enrolled(agent.end());
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_link_that_is_down_at_the_start_is_waited_for() {
    let topology = Topology::direct(IPV4);
    topology.network.link_down();
    let run = topology.run(topology.enrol(&["--wait", "4s"]));
    topology.expect_rejected(run, 69, &["https://192.0.2.1:8443", "no answer in time"]);

    let mut agent = topology.start(topology.enrol(&[]));
    agent.wait_for("try 1");
    topology.network.link_up();
    topology.expect_enrolled(agent.end());
}

/// Takes the link down after the hub got the request: the hub commits, and its response is lost.
#[track_caller]
fn cut_during_the_request(wait: &str) -> (Topology, RunningAgent) {
    let topology = Topology::direct(IPV4);
    topology
        .hub()
        .fault(json!({"route": "enrol", "delay_ms": 3_000}));
    let agent = topology.start(topology.enrol(&["--wait", wait, "--output", "json"]));
    eventually("the request arrives", || {
        topology.hub().get("faults")["faults"] == json!([])
    });
    topology.network.link_down();
    eventually("the hub commits", || topology.hub().spent() == 1);
    (topology, agent)
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_short_link_failure_during_the_request_needs_no_retry() {
    let (topology, agent) = cut_during_the_request("5m");
    topology.network.link_up();
    let run = topology.expect_enrolled(agent.end());
    assert!(!run.stderr.contains("try 1"), "{}", run.stderr);
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn the_next_run_recovers_from_a_long_link_failure_during_the_request() {
    let (topology, agent) = cut_during_the_request("6s");
    topology.expect_failed(agent.end(), 69, &["no answer", "no use is spent twice"]);
    topology.network.link_up();
    let run = topology.run(topology.enrol(&["--output", "json"]));
    let run = topology.expect_enrolled(run);
    assert_eq!(run.json()["result"], "recovered");
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_hub_that_never_responds_is_reported() {
    let mut topology = Topology::direct(IPV4);
    topology.stop_hub();
    let silent = TcpListener::bind("192.0.2.1:8443").unwrap();
    let run = topology.run(topology.enrol(&["--wait", "2s"]));
    topology.expect_rejected(
        run,
        69,
        &["https://192.0.2.1:8443", "no answer", "1 try in 2s"],
    );

    // With time enough, a try ends by itself.
    let mut agent = topology.start(topology.enrol(&[]));
    agent.wait_for("no connection within 10 s");
    drop(silent);
    topology.start_hub();
    topology.expect_enrolled(agent.end());
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_restarted_hub_recognises_the_host() {
    let mut topology = Topology::direct(IPV4);
    // It commits each time, and its answer is always lost.
    topology
        .hub()
        .fault(json!({"route": "enrol", "reset": "after", "times": 1_000}));
    let mut agent = topology.start(topology.enrol(&[]));
    agent.wait_for("the connection broke before an answer");
    assert_eq!(topology.hub().spent(), 1);
    topology.stop_hub();
    agent.wait_for("refused");
    topology.start_hub();
    topology.expect_enrolled(agent.end());
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn ipv6_alone_is_enough() {
    let topology = Topology::direct(IPV6);
    let run = topology.run(topology.enrol(&[]));
    topology.expect_enrolled(run);
    assert_eq!(topology.hub().agents()[0]["facts"]["primary_ip"], IPV6.host);
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_missing_route_is_reported() {
    let network = Network::new();
    let hub = TestHub::new();
    let host = TestHost::new();
    for (url, message) in [
        ("https://192.0.2.1:8443", "unreachable"),
        ("https://[fd00:6d6f:6e73::1]:8443", "unreachable"),
    ] {
        let agent = host
            .agent(&["enrol", "--wait", "0", "--hub-url", url])
            .env("MONSYS_TOKEN", &hub.token());
        network
            .on_host(|| agent.run())
            .expect(69)
            .expect_stderr(&[url, message, "hint:"]);
    }
    assert_eq!(hub.spent(), 0);
}
