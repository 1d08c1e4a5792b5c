//! DNS: a name server that fails or is silent, and works later.

use std::net::UdpSocket;
use std::process::Command;

use crate::authority::Authority;
use crate::common::Prepared;
use crate::network::IPV4;
use crate::server::Server;
use crate::topology::Topology;

const URL: &str = "https://hub.test";
const RECORD: &str = "hub.test,192.0.2.1";

/// A hub with a name, behind nginx, and a host that uses the name server at the hub's address.
struct Named {
    _proxy: Server,
    topology: Topology,
}

impl Named {
    fn new() -> Self {
        let authority = Authority::new();
        let topology = Topology::behind(IPV4, URL, &authority.pem());
        let proxy = Server::nginx(&authority.issue("hub.test"), "", "");
        topology.host.write_file(
            "resolv.conf",
            "nameserver 192.0.2.1\noptions timeout:1 attempts:1\n",
        );
        topology.host.write_file("nsswitch.conf", "hosts: dns\n");
        Self {
            _proxy: proxy,
            topology,
        }
    }

    /// `enrol`, in a mount namespace where the host's resolver files are the system's.
    fn enrol(&self, more: &[&str]) -> Prepared {
        let script = "mount --bind \"$0/resolv.conf\" /etc/resolv.conf &&
            mount --bind \"$0/nsswitch.conf\" /etc/nsswitch.conf && exec \"$@\"";
        let mut wrapper = Command::new("/usr/bin/unshare");
        wrapper
            .args([
                "--mount",
                "--propagation",
                "private",
                "/bin/sh",
                "-c",
                script,
            ])
            .arg(self.topology.host.path(""));
        self.topology.enrol(more).under(&mut wrapper)
    }
}

/// Expects that name resolution fails and is reported; then starts `answers`, and the host enrols.
#[track_caller]
fn fails_and_then_answers<T>(failing: impl FnOnce() -> T) {
    let named = Named::new();
    let topology = &named.topology;
    let failing = failing();
    let run = topology.run(named.enrol(&["--wait", "0"]));
    topology.expect_rejected(run, 69, &[URL, "resolving", "getent ahosts"]);

    let mut agent = topology.start(named.enrol(&[]));
    agent.wait_for("try 1");
    drop(failing);
    let _answers = Server::dnsmasq(&[RECORD]);
    topology.expect_enrolled(agent.end());
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn an_unknown_name_is_waited_for() {
    fails_and_then_answers(|| Server::dnsmasq(&[]));
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_name_server_that_is_down_is_waited_for() {
    fails_and_then_answers(|| ());
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_silent_name_server_is_waited_for() {
    fails_and_then_answers(|| UdpSocket::bind("192.0.2.1:53").unwrap());
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn the_second_address_of_a_name_is_tried_when_the_first_fails() {
    let named = Named::new();
    // The host's own address refuses; glibc puts it first, as the nearest.
    let _answers = Server::dnsmasq(&["hub.test,192.0.2.2", RECORD]);
    let run = named.topology.run(named.enrol(&[]));
    named.topology.expect_enrolled(run);
}
