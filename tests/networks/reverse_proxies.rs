//! nginx and haproxy, which end TLS before the hub.

use serde_json::json;

use crate::authority::{Authority, Identity};
use crate::network::IPV4;
use crate::scene::Scene;
use crate::server::Server;

const URL: &str = "https://192.0.2.1";

fn nginx(identity: &Identity) -> Server {
    Server::nginx(identity, "", "")
}

/// The hub sees the host's own address through the proxy, when it trusts that proxy, and the
/// proxy's when it does not.
#[track_caller]
fn hands_on_the_source(proxy: fn(&Identity) -> Server) {
    let authority = Authority::new();
    let mut scene = Scene::behind(IPV4, URL, &authority.pem());
    let _proxy = proxy(&authority.vouch(IPV4.hub));
    scene.allow_only("192.0.2.2/32");
    scene.hub_trusts(&[]);
    let run = scene.run(scene.enrol(&[]));
    scene.refused(run, 77, &["401", "source address", "allowed CIDRs"]);

    scene.hub_trusts(&["127.0.0.1/32"]);
    let run = scene.run(scene.enrol(&[]));
    scene.enrolled(run);
}

/// A hub that is not up yet is an error page of the proxy, and is waited for.
#[track_caller]
fn waits_for_the_hub(proxy: fn(&Identity) -> Server, seen: &str) {
    let authority = Authority::new();
    let mut scene = Scene::behind(IPV4, URL, &authority.pem());
    let _proxy = proxy(&authority.vouch(IPV4.hub));
    scene.hub_dies();
    let run = scene.run(scene.enrol(&["--wait", "0"]));
    scene.refused(run, 69, &[seen, "HTML", "before the hub"]);

    let mut agent = scene.start(scene.enrol(&[]));
    agent.until(seen);
    scene.hub_returns();
    scene.enrolled(agent.end());
}

/// The hub commits, and dies before its answer: the proxy says 502, and the same agent comes of
/// the next try.
#[track_caller]
fn loses_the_answer(proxy: fn(&Identity) -> Server) {
    let authority = Authority::new();
    let scene = Scene::behind(IPV4, URL, &authority.pem());
    let _proxy = proxy(&authority.vouch(IPV4.hub));
    scene
        .hub()
        .fault(json!({"route": "enrol", "reset": "after"}));
    let run = scene.run(scene.enrol(&[]));
    scene.enrolled(run.says(&["try 1: HTTP 502 Bad Gateway"]));
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_response_lost_by_nginx_spends_no_second_use() {
    loses_the_answer(nginx);
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_response_lost_by_haproxy_spends_no_second_use() {
    loses_the_answer(Server::haproxy);
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn nginx_forwards_the_source_address() {
    hands_on_the_source(nginx);
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn haproxy_forwards_the_source_address() {
    hands_on_the_source(Server::haproxy);
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn nginx_without_a_hub_behind_it_is_waited_for() {
    waits_for_the_hub(nginx, "HTTP 502 Bad Gateway");
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn haproxy_without_a_hub_behind_it_is_waited_for() {
    waits_for_the_hub(Server::haproxy, "HTTP 503 Service Unavailable");
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_rate_limit_of_nginx_is_waited_for() {
    let authority = Authority::new();
    let scene = Scene::behind(IPV4, URL, &authority.pem());
    let _proxy = Server::nginx(
        &authority.vouch(IPV4.hub),
        "limit_req_zone $server_addr zone=all:1m rate=10r/m; limit_req_status 429;",
        "limit_req zone=all;",
    );
    let run = scene.run(scene.enrol(&[]));
    scene.enrolled(run);
    // For six seconds after a request, none is let through; the host comes back after them. nginx
    // answers with a page, and the hub has not been asked.
    let run = scene.run(scene.enrol(&["--tag", "more"]));
    scene.enrolled(run.says(&["HTTP 429 Too Many Requests", "next try in"]));
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_body_limit_of_nginx_is_reported() {
    let authority = Authority::new();
    let scene = Scene::behind(IPV4, URL, &authority.pem());
    let identity = authority.vouch(IPV4.hub);
    let _proxy = Server::nginx(&identity, "", "client_max_body_size 16;");
    let run = scene.run(scene.enrol(&[]));
    scene.refused(run, 65, &["HTTP 413", "HTML", "before the hub"]);
}
