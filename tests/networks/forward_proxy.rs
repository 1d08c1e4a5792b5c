//! squid, through which the host has to go.

use crate::network::IPV4;
use crate::scene::Scene;
use crate::server::{SQUID, Server};

const PASSWORD: &str = "hunter2:/@";
/// The same, as it is written in a URL.
const ESCAPED: &str = "hunter2%3A%2F%40";

fn proxy(user: &str) -> String {
    format!("http://{user}{SQUID}")
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn squid_opens_a_tunnel_and_sees_no_secret() {
    let scene = Scene::direct(IPV4);
    let squid = Server::squid(None);
    let run = scene.run(scene.enrol(&[]).env("HTTPS_PROXY", &proxy("")));
    scene.enrolled(run);
    let log = squid.log("access.log");
    assert!(log.contains("TCP_TUNNEL/200"), "{log}");
    assert!(log.contains("CONNECT 192.0.2.1:8443"), "{log}");
    assert!(!log.contains("enrl_"), "{log}");
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn no_proxy_bypasses_squid() {
    let scene = Scene::direct(IPV4);
    let squid = Server::squid(None);
    let agent = scene
        .enrol(&[])
        .env("HTTPS_PROXY", &proxy(""))
        .env("NO_PROXY", "192.0.2.0/24");
    scene.enrolled(scene.run(agent));
    assert!(!squid.log("access.log").contains("CONNECT"));
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn squid_accepts_the_password() {
    let scene = Scene::direct(IPV4);
    let squid = Server::squid(Some(("me", PASSWORD)));
    let user = format!("me:{ESCAPED}@");
    let run = scene.run(scene.enrol(&["-vv"]).env("HTTPS_PROXY", &proxy(&user)));
    let run = scene.enrolled(run);
    assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
    assert!(squid.log("access.log").contains("TCP_TUNNEL/200"));
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_missing_or_wrong_password_of_squid_is_reported() {
    let scene = Scene::direct(IPV4);
    let _squid = Server::squid(Some(("me", PASSWORD)));
    for (user, says) in [
        ("", "none is in its URL"),
        ("me:hunter3@", "does not accept"),
        ("you:hunter3@", "does not accept"),
    ] {
        // No retry makes a password right, so this is told at once, whatever the deadline.
        let run = scene.run(scene.enrol(&[]).env("HTTPS_PROXY", &proxy(user)));
        let run = scene.refused(
            run,
            69,
            &[
                "407",
                says,
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
    let mut scene = Scene::direct(IPV4);
    let _squid = Server::squid(None);
    scene.hub_dies();
    let enrol = |more: &[&str]| scene.enrol(more).env("HTTPS_PROXY", &proxy(""));
    let run = scene.run(enrol(&["--wait", "0"]));
    scene.refused(
        run,
        69,
        &["opened no tunnel", "HTTPS_PROXY", "192.0.2.1:3128"],
    );

    let mut agent = scene.start(enrol(&[]));
    agent.until("opened no tunnel");
    scene.hub_returns();
    scene.enrolled(agent.end());
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn squid_that_is_down_is_named_and_waited_for() {
    let scene = Scene::direct(IPV4);
    let enrol = |more: &[&str]| scene.enrol(more).env("HTTPS_PROXY", &proxy("me:hunter2@"));
    let run = scene.run(enrol(&["--wait", "0"]));
    let run = scene.refused(run, 69, &["refused", "HTTPS_PROXY", "192.0.2.1:3128"]);
    assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);

    let mut agent = scene.start(enrol(&[]));
    agent.until("try 1");
    let _squid = Server::squid(None);
    scene.enrolled(agent.end());
}
