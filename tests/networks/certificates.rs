//! Certificates and versions of TLS, served by nginx.

use crate::authority::{Authority, Identity};
use crate::network::IPV4;
use crate::server::Server;
use crate::topology::Topology;

const URL: &str = "https://192.0.2.1";

/// A hub behind nginx with this identity.
fn served(authority: &Authority, identity: &Identity) -> (Server, Topology) {
    let topology = Topology::behind(IPV4, URL, &authority.pem());
    (Server::nginx(identity, "", ""), topology)
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn an_expired_certificate_is_reported_with_both_times() {
    let authority = Authority::new();
    let (nginx, topology) = served(&authority, &authority.issue_between(IPV4.hub, 2020, 2021));
    let run = topology.run(topology.enrol(&["--wait", "0"]));
    topology.expect_rejected(
        run,
        69,
        &[
            "expired at 2021-01-01T00:00:00Z",
            "this host's clock says 20",
            "timedatectl",
        ],
    );
    // The certificate is renewed while the host waits.
    let mut agent = topology.start(topology.enrol(&[]));
    agent.wait_for("expired");
    drop(nginx);
    let _nginx = Server::nginx(&authority.issue(IPV4.hub), "", "");
    topology.expect_enrolled(agent.end());
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_certificate_that_is_not_valid_yet_is_reported_as_a_slow_clock() {
    let authority = Authority::new();
    let (_nginx, topology) = served(&authority, &authority.issue_between(IPV4.hub, 2090, 2100));
    let run = topology.run(topology.enrol(&["--wait", "0"]));
    topology.expect_rejected(
        run,
        69,
        &[
            "clock is behind",
            "valid from 2090-01-01T00:00:00Z",
            "this host's clock says 20",
            "timedatectl",
        ],
    );
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_certificate_for_another_name_is_reported_with_both_names() {
    let authority = Authority::new();
    let (_nginx, topology) = served(&authority, &authority.issue("other.test"));
    let run = topology.run(topology.enrol(&[]));
    topology.expect_rejected(
        run,
        69,
        &["not for 192.0.2.1, but for other.test", "--hub-url"],
    );
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_missing_intermediate_is_reported_and_a_complete_ca_file_fixes_it() {
    let root = Authority::new();
    let middle = root.intermediate();
    let (_nginx, mut topology) = served(&root, &middle.issue(IPV4.hub));
    let run = topology.run(topology.enrol(&[]));
    topology.expect_rejected(run, 69, &["not trusted", "intermediate", "--ca-file"]);
    topology.trust(&format!("{}{}", root.pem(), middle.pem()));
    let run = topology.run(topology.enrol(&[]));
    topology.expect_enrolled(run);
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_complete_chain_is_trusted_through_its_root() {
    let root = Authority::new();
    let middle = root.intermediate();
    let mut identity = middle.issue(IPV4.hub);
    identity.certificate.push_str(&middle.pem());
    let (_nginx, topology) = served(&root, &identity);
    let run = topology.run(topology.enrol(&[]));
    topology.expect_enrolled(run);
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_server_with_only_tls_1_1_is_reported_at_once() {
    let authority = Authority::new();
    let topology = Topology::behind(IPV4, URL, &authority.pem());
    let _nginx = Server::nginx(
        &authority.issue(IPV4.hub),
        "ssl_protocols TLSv1.1; ssl_ciphers ALL:@SECLEVEL=0;",
        "",
    );
    let run = topology.run(topology.enrol(&[]));
    topology.expect_rejected(run, 76, &["TLS 1.2", "TLS 1.3", "load balancer"]);
}
