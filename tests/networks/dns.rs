//! DNS: a name server that fails or is silent, and works later.

use std::net::UdpSocket;

use crate::named_hub::{NamedHub, RESOLV_CONF};
use crate::server::Server;

const URL: &str = "https://hub.test";
const RECORD: &str = "hub.test,192.0.2.1";

/// Returns a hub with a name, and a host that gives up on a name server after a second.
fn named_hub() -> NamedHub {
    let named = NamedHub::new("hub.test");
    let impatient = format!("{RESOLV_CONF}options timeout:1 attempts:1\n");
    named.write("resolv.conf", &impatient);
    named
}

/// Expects that name resolution fails and is reported; then starts `answers`, and the host enrols.
#[track_caller]
fn fails_and_then_answers<T>(failing: impl FnOnce() -> T) {
    let named = named_hub();
    let topology = &named.topology;
    let failing = failing();
    let run = topology.run(named.enrol(&["--wait", "0"]));
    topology.expect_rejected(run, 69, &[URL, "cause: DNS: ", "getent ahosts hub.test"]);

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

/// DHCP may write the list of name servers after the agent's start.
#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_list_of_name_servers_that_is_written_later_is_read() {
    let named = named_hub();
    let _answers = Server::dnsmasq(&[RECORD]);
    let early = "nameserver 192.0.2.99\noptions timeout:1 attempts:1\n";
    named.write("resolv.conf", early);
    let mut agent = named.topology.start(named.enrol(&[]));
    agent.wait_for("try 1");
    named.write("resolv.conf", RESOLV_CONF);
    named.topology.expect_enrolled(agent.end());
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn the_second_address_of_a_name_is_tried_when_the_first_fails() {
    let named = named_hub();
    // The host's own address refuses; glibc puts it first, as the nearest.
    let _answers = Server::dnsmasq(&["hub.test,192.0.2.2", RECORD]);
    let run = named.topology.run(named.enrol(&[]));
    named.topology.expect_enrolled(run);
}
