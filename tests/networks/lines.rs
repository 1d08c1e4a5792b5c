//! The line between host and hub: lossy, slow, cut, silent, IPv6 alone, or none.

use std::net::TcpListener;

use serde_json::json;

use crate::common::{TestHost, TestHub};
use crate::eventually;
use crate::live::Live;
use crate::network::{IPV4, IPV6, Network};
use crate::scene::Scene;

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_link_that_loses_every_fourth_packet_is_enough() {
    let scene = Scene::direct(IPV4);
    scene.network.lose("numgen inc mod 4 == 0");
    let run = scene.run(scene.enrol(&[]));
    scene.enrolled(run);
    assert_ne!(scene.network.lost("input"), 0);
    assert_ne!(scene.network.lost("output"), 0);
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_slow_link_is_enough() {
    let scene = Scene::direct(IPV4);
    scene.network.slow_down();
    let run = scene.run(scene.enrol(&[]));
    let run = scene.enrolled(run);
    assert!(!run.stderr.contains("try 1"), "{}", run.stderr);
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn loss_of_large_packets_is_reported_and_waited_for() {
    let scene = Scene::direct(IPV4);
    // A connection stands, but no certificate ever comes through.
    scene.network.lose("meta length > 600");
    let run = scene.run(scene.enrol(&["--wait", "3s"]));
    scene.refused(run, 69, &["no answer in time", "packets are lost"]);
    assert_ne!(scene.network.lost("output"), 0);

    let mut agent = scene.start(scene.enrol(&[]));
    agent.until("no connection within 10 s");
    scene.network.lose_none();
    scene.enrolled(agent.end());
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_link_that_is_down_at_the_start_is_waited_for() {
    let scene = Scene::direct(IPV4);
    scene.network.cut();
    let run = scene.run(scene.enrol(&["--wait", "4s"]));
    scene.refused(run, 69, &["https://192.0.2.1:8443", "no answer in time"]);

    let mut agent = scene.start(scene.enrol(&[]));
    agent.until("try 1");
    scene.network.hint();
    scene.enrolled(agent.end());
}

/// The cable is cut when the hub has the request; the hub commits, and its answer goes nowhere.
#[track_caller]
fn cut_in_the_middle(wait: &str) -> (Scene, Live) {
    let scene = Scene::direct(IPV4);
    scene
        .hub()
        .fault(json!({"route": "enrol", "delay_ms": 3_000}));
    let agent = scene.start(scene.enrol(&["--wait", wait, "--output", "json"]));
    eventually("the request arrives", || {
        scene.hub().get("faults")["faults"] == json!([])
    });
    scene.network.cut();
    eventually("the hub commits", || scene.hub().spent() == 1);
    (scene, agent)
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_short_link_failure_during_the_request_needs_no_retry() {
    let (scene, agent) = cut_in_the_middle("5m");
    scene.network.hint();
    let run = scene.enrolled(agent.end());
    assert!(!run.stderr.contains("try 1"), "{}", run.stderr);
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn the_next_run_recovers_from_a_long_link_failure_during_the_request() {
    let (scene, agent) = cut_in_the_middle("6s");
    scene.failed(agent.end(), 69, &["no answer", "no use is spent twice"]);
    scene.network.hint();
    let run = scene.run(scene.enrol(&["--output", "json"]));
    let run = scene.enrolled(run);
    assert_eq!(run.json()["result"], "recovered");
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_hub_that_never_responds_is_reported() {
    let mut scene = Scene::direct(IPV4);
    scene.hub_dies();
    let silent = TcpListener::bind("192.0.2.1:8443").unwrap();
    let run = scene.run(scene.enrol(&["--wait", "2s"]));
    scene.refused(
        run,
        69,
        &["https://192.0.2.1:8443", "no answer", "1 try in 2s"],
    );

    // With time enough, a try ends by itself.
    let mut agent = scene.start(scene.enrol(&[]));
    agent.until("no connection within 10 s");
    drop(silent);
    scene.hub_returns();
    scene.enrolled(agent.end());
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_restarted_hub_recognises_the_host() {
    let mut scene = Scene::direct(IPV4);
    // It commits each time, and its answer is always lost.
    scene
        .hub()
        .fault(json!({"route": "enrol", "reset": "after", "times": 1_000}));
    let mut agent = scene.start(scene.enrol(&[]));
    agent.until("the connection broke before an answer");
    assert_eq!(scene.hub().spent(), 1);
    scene.hub_dies();
    agent.until("refused");
    scene.hub_returns();
    scene.enrolled(agent.end());
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn ipv6_alone_is_enough() {
    let scene = Scene::direct(IPV6);
    let run = scene.run(scene.enrol(&[]));
    scene.enrolled(run);
    assert_eq!(scene.hub().agents()[0]["facts"]["primary_ip"], IPV6.host);
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_missing_route_is_reported() {
    let network = Network::new();
    let hub = TestHub::new();
    let host = TestHost::new();
    for (url, says) in [
        ("https://192.0.2.1:8443", "unreachable"),
        ("https://[fd00:6d6f:6e73::1]:8443", "unreachable"),
    ] {
        let agent = host
            .agent(&["enrol", "--wait", "0", "--hub-url", url])
            .env("MONSYS_TOKEN", &hub.token());
        network
            .on_host(|| agent.run())
            .expect(69)
            .says(&[url, says, "hint:"]);
    }
    assert_eq!(hub.spent(), 0);
}
