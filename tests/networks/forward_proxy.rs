//! squid as a forward proxy between host and hub.

use crate::common::until;
use crate::network::IPV4;
use crate::server::{SQUID, Server};
use crate::topology::Topology;

const PASSWORD: &str = "hunter2:/@";
/// [`PASSWORD`], percent-encoded for a URL.
const ESCAPED: &str = "hunter2%3A%2F%40";

fn proxy(user: &str) -> String {
    format!("http://{user}{SQUID}")
}

/// Waits for the tunnel in squid's log: squid logs a tunnel when it closes.
fn wait_for_tunnel(squid: &Server) {
    until("the tunnel in the log of squid", || {
        squid.log("access.log").contains("TCP_TUNNEL/200")
    });
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn squid_opens_a_tunnel_and_sees_no_secret() {
    let topology = Topology::direct(IPV4);
    let squid = Server::squid(None);
    let run = topology.run(topology.enrol(&[]).env("HTTPS_PROXY", &proxy("")));
    topology.expect_enrolled(run);
    wait_for_tunnel(&squid);
    let log = squid.log("access.log");
    assert!(log.contains("CONNECT 192.0.2.1:8443"), "{log}");
    assert!(!log.contains("enrl_"), "{log}");
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn no_proxy_bypasses_squid() {
    let topology = Topology::direct(IPV4);
    let squid = Server::squid(None);
    let agent = topology
        .enrol(&[])
        .env("HTTPS_PROXY", &proxy(""))
        .env("NO_PROXY", "192.0.2.0/24");
    topology.expect_enrolled(topology.run(agent));
    assert!(!squid.log("access.log").contains("CONNECT"));
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn squid_accepts_the_password() {
    let topology = Topology::direct(IPV4);
    let squid = Server::squid(Some(("me", PASSWORD)));
    let user = format!("me:{ESCAPED}@");
    let run = topology.run(topology.enrol(&["-vv"]).env("HTTPS_PROXY", &proxy(&user)));
    let run = topology.expect_enrolled(run);
    assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
    wait_for_tunnel(&squid);
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_missing_or_wrong_password_of_squid_is_reported() {
    let topology = Topology::direct(IPV4);
    let _squid = Server::squid(Some(("me", PASSWORD)));
    for (user, message) in [
        ("", "none is in its URL"),
        ("me:hunter3@", "does not accept"),
        ("you:hunter3@", "does not accept"),
    ] {
        // A retry does not fix a password, so the failure is reported at once.
        let run = topology.run(topology.enrol(&[]).env("HTTPS_PROXY", &proxy(user)));
        let run = topology.expect_rejected(
            run,
            69,
            &[
                "407",
                message,
                "HTTPS_PROXY",
                "192.0.2.1:3128",
                "USER:PASSWORD",
            ],
        );
        assert!(!run.stderr.contains("hunter3"), "{}", run.stderr);
        assert!(!run.stderr.contains("next try"), "{}", run.stderr);
    }
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn squid_that_does_not_reach_the_hub_is_waited_for() {
    let mut topology = Topology::direct(IPV4);
    let _squid = Server::squid(None);
    topology.stop_hub();
    let enrol = |more: &[&str]| topology.enrol(more).env("HTTPS_PROXY", &proxy(""));
    let run = topology.run(enrol(&["--wait", "0"]));
    topology.expect_rejected(
        run,
        69,
        &["opened no tunnel", "HTTPS_PROXY", "192.0.2.1:3128"],
    );

    let mut agent = topology.start(enrol(&[]));
    agent.wait_for("opened no tunnel");
    topology.start_hub();
    topology.expect_enrolled(agent.end());
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn squid_that_is_down_is_named_and_waited_for() {
    let topology = Topology::direct(IPV4);
    let enrol = |more: &[&str]| {
        topology
            .enrol(more)
            .env("HTTPS_PROXY", &proxy("me:hunter2@"))
    };
    let run = topology.run(enrol(&["--wait", "0"]));
    let run = topology.expect_rejected(run, 69, &["refused", "HTTPS_PROXY", "192.0.2.1:3128"]);
    assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);

    let mut agent = topology.start(enrol(&[]));
    agent.wait_for("try 1");
    let _squid = Server::squid(None);
    topology.expect_enrolled(agent.end());
}
