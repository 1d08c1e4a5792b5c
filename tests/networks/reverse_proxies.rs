//! nginx and haproxy as reverse proxies that terminate TLS before the hub.

use serde_json::json;

use crate::authority::{Authority, Identity};
use crate::network::IPV4;
use crate::server::Server;
use crate::topology::Topology;

const URL: &str = "https://192.0.2.1";

fn nginx(identity: &Identity) -> Server {
    Server::nginx(identity, "", "")
}

/// Checks that the hub sees the host's address through a trusted proxy, and the proxy's address otherwise.
#[track_caller]
fn forwards_the_source(proxy: fn(&Identity) -> Server) {
    let authority = Authority::new();
    let mut topology = Topology::behind(IPV4, URL, &authority.pem());
    let _proxy = proxy(&authority.issue(IPV4.hub));
    topology.restrict_token_to("192.0.2.2/32");
    topology.restart_hub_trusting(&[]);
    let run = topology.run(topology.enrol(&[]));
    topology.expect_rejected(run, 77, &["401", "source address", "allowed CIDRs"]);

    topology.restart_hub_trusting(&["127.0.0.1/32"]);
    let run = topology.run(topology.enrol(&[]));
    topology.expect_enrolled(run);
}

/// Checks that the agent waits while the proxy returns an error page because the hub is down.
#[track_caller]
fn waits_for_the_hub(proxy: fn(&Identity) -> Server, seen: &str) {
    let authority = Authority::new();
    let mut topology = Topology::behind(IPV4, URL, &authority.pem());
    let _proxy = proxy(&authority.issue(IPV4.hub));
    topology.stop_hub();
    let run = topology.run(topology.enrol(&["--wait", "0"]));
    topology.expect_rejected(run, 69, &[seen, "HTML", "in place of the hub"]);

    let mut agent = topology.start(topology.enrol(&[]));
    agent.wait_for(seen);
    topology.start_hub();
    topology.expect_enrolled(agent.end());
}

/// Checks that the same agent results from the next try if the hub commits and the proxy returns 502.
#[track_caller]
fn loses_the_response(proxy: fn(&Identity) -> Server) {
    let authority = Authority::new();
    let topology = Topology::behind(IPV4, URL, &authority.pem());
    let _proxy = proxy(&authority.issue(IPV4.hub));
    topology
        .hub()
        .fault(json!({"route": "enrol", "reset": "after"}));
    let run = topology.run(topology.enrol(&[]));
    topology.expect_enrolled(run.expect_stderr(&["try 1: HTTP 502 Bad Gateway"]));
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_response_lost_by_nginx_spends_no_second_use() {
    loses_the_response(nginx);
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_response_lost_by_haproxy_spends_no_second_use() {
    loses_the_response(Server::haproxy);
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn nginx_forwards_the_source_address() {
    forwards_the_source(nginx);
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn haproxy_forwards_the_source_address() {
    forwards_the_source(Server::haproxy);
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
    let topology = Topology::behind(IPV4, URL, &authority.pem());
    let _proxy = Server::nginx(
        &authority.issue(IPV4.hub),
        "limit_req_zone $server_addr zone=all:1m rate=10r/m; limit_req_status 429;",
        "limit_req zone=all;",
    );
    let run = topology.run(topology.enrol(&[]));
    topology.expect_enrolled(run);
    // nginx rejects requests with a page for six seconds after each request; the host retries after them.
    let run = topology.run(topology.enrol(&["--tag", "more"]));
    topology.expect_enrolled(run.expect_stderr(&["HTTP 429 Too Many Requests", "next try in"]));
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_body_limit_of_nginx_is_reported() {
    let authority = Authority::new();
    let topology = Topology::behind(IPV4, URL, &authority.pem());
    let identity = authority.issue(IPV4.hub);
    let _proxy = Server::nginx(&identity, "", "client_max_body_size 16;");
    let run = topology.run(topology.enrol(&[]));
    topology.expect_rejected(run, 65, &["HTTP 413", "HTML", "in place of the hub"]);
}
