//! Answers of name servers, `/etc/hosts` and search lists, with which other programs still resolve the hub's name.

use crate::name_server::{Answer, Kind, NOTIMP, NXDOMAIN, NameServer, Question, REFUSED, SERVFAIL};
use crate::named_hub::{HOSTS, NamedHub, RESOLV_CONF};
use crate::server::Server;

const HUB: Answer = Answer::Addresses(&["192.0.2.1"]);
const NO_ADDRESS: Answer = Answer::Addresses(&[]);

/// A host and a hub, of which the host knows nothing but the name.
struct Scene {
    hub: NamedHub,
}

impl Scene {
    fn new() -> Self {
        Self::named("hub.test")
    }

    fn named(name: &str) -> Self {
        Self {
            hub: NamedHub::new(name),
        }
    }

    /// Expects that the first try enrols the host, before a deadline of three seconds.
    #[track_caller]
    fn enrols(&self) {
        self.enrols_within("3s");
    }

    #[track_caller]
    fn enrols_within(&self, wait: &str) {
        let run = self.hub.topology.run(self.hub.enrol(&["--wait", wait]));
        let run = self.hub.topology.expect_enrolled(run);
        assert!(!run.stderr.contains("try 1"), "{}", run.stderr);
    }

    /// Expects a failure within three seconds whose cause names DNS and the name.
    #[track_caller]
    fn fails(&self, cause: &str) {
        let run = self.hub.topology.run(self.hub.enrol(&["--wait", "3s"]));
        self.hub.topology.expect_rejected(
            run,
            69,
            &[self.hub.topology.url.as_str(), cause, "getent ahosts"],
        );
    }
}

/// Expects that the host enrols at its first try with this answer to the query for IPv6 addresses.
#[track_caller]
fn enrols_when_ipv6_gets(rule: fn(&Question) -> Answer) {
    let scene = Scene::new();
    let server = NameServer::start(rule);
    scene.enrols();
    let kinds: Vec<Kind> = server.questions().iter().map(|q| q.kind).collect();
    assert_eq!(kinds, [Kind::A, Kind::Aaaa]);
}

fn ipv4_or(question: &Question, ipv6: Answer) -> Answer {
    if question.kind == Kind::A { HUB } else { ipv6 }
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn no_ipv6_address_leaves_the_ipv4_addresses() {
    enrols_when_ipv6_gets(|question| ipv4_or(question, NO_ADDRESS));
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_server_failure_for_ipv6_leaves_the_ipv4_addresses() {
    enrols_when_ipv6_gets(|question| ipv4_or(question, SERVFAIL));
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn an_unknown_name_for_ipv6_leaves_the_ipv4_addresses() {
    enrols_when_ipv6_gets(|question| ipv4_or(question, NXDOMAIN));
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_refused_query_for_ipv6_leaves_the_ipv4_addresses() {
    enrols_when_ipv6_gets(|question| ipv4_or(question, REFUSED));
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_query_for_ipv6_that_is_not_implemented_leaves_the_ipv4_addresses() {
    enrols_when_ipv6_gets(|question| ipv4_or(question, NOTIMP));
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_dropped_query_for_ipv6_leaves_the_ipv4_addresses() {
    enrols_when_ipv6_gets(|question| ipv4_or(question, Answer::Silence));
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_failure_for_ipv4_leaves_the_ipv6_addresses() {
    enrols_when_ipv6_gets(|question| match question.kind {
        Kind::A => NXDOMAIN,
        Kind::Aaaa => Answer::Addresses(&["fd00:6d6f:6e73::1"]),
    });
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_truncated_answer_is_asked_for_by_tcp() {
    let scene = Scene::new();
    let server = NameServer::start(|question| match (question.kind, question.is_tcp) {
        (Kind::A, false) => Answer::Truncated,
        _ => ipv4_or(question, NO_ADDRESS),
    });
    scene.enrols();
    assert!(server.questions().iter().any(|question| question.is_tcp));
}

/// 40 addresses are more than 512 bytes, so dnsmasq itself truncates them.
#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_long_answer_of_a_real_name_server_is_complete() {
    let scene = Scene::new();
    // No route leads to the others.
    let others = (1..40).map(|n| format!("hub.test,198.51.100.{n}"));
    let records: Vec<String> = others.chain(["hub.test,192.0.2.1".to_owned()]).collect();
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let _server = Server::dnsmasq(&records);
    scene.enrols();
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_long_line_of_etc_hosts_is_read_to_its_end() {
    let scene = Scene::new();
    let aliases = " alias-of-the-hub.test".repeat(60);
    scene
        .hub
        .write("hosts", &format!("{HOSTS}192.0.2.1{aliases} hub.test\n"));
    let server = NameServer::start(|_| NXDOMAIN);
    scene.enrols();
    assert_eq!(server.questions(), []);
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_name_with_a_dot_is_completed_from_the_search_list() {
    let scene = Scene::named("hub.prod");
    scene.hub.write(
        "resolv.conf",
        &format!("{RESOLV_CONF}search other.test site.test\n"),
    );
    let _server = NameServer::start(|question| match question.name.as_str() {
        "hub.prod.site.test" => ipv4_or(question, NO_ADDRESS),
        _ => NXDOMAIN,
    });
    scene.enrols();
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_domain_of_a_long_search_list_completes_a_short_name() {
    let scene = Scene::named("hub");
    let fillers = " filler.example".repeat(30);
    scene.hub.write(
        "resolv.conf",
        &format!("{RESOLV_CONF}search{fillers} site.test\n"),
    );
    let _server = NameServer::start(|question| match question.name.as_str() {
        "hub.site.test" => ipv4_or(question, SERVFAIL),
        _ => NXDOMAIN,
    });
    scene.enrols();
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_name_with_an_underscore_is_resolved() {
    let scene = Scene::named("my_hub.test");
    let _server = NameServer::start(|question| match question.name.as_str() {
        "my_hub.test" => ipv4_or(question, NO_ADDRESS),
        _ => NXDOMAIN,
    });
    scene.enrols();
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_dead_first_name_server_is_passed_over() {
    let scene = Scene::new();
    scene.hub.write(
        "resolv.conf",
        &format!("nameserver 192.0.2.99\n{RESOLV_CONF}"),
    );
    let _server = NameServer::start(|question| ipv4_or(question, NO_ADDRESS));
    // glibc asks the second name server after five seconds, musl at once.
    scene.enrols_within("20s");
}

/// An address of the hub's machine that drops every packet. The host's own address is nearer to it than to the
/// hub's, so that the C library puts it first.
fn with_dead_address() -> Scene {
    let scene = Scene::new();
    scene
        .hub
        .topology
        .network
        .drop_packets("ip daddr 192.0.2.3");
    scene
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_dead_first_ipv4_address_of_a_name_costs_little() {
    let scene = with_dead_address();
    let _server = NameServer::start(|_| Answer::Addresses(&["192.0.2.3", "192.0.2.1"]));
    scene.enrols();
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_dead_first_ipv4_address_of_etc_hosts_costs_little() {
    let scene = with_dead_address();
    scene.hub.write(
        "hosts",
        &format!("{HOSTS}192.0.2.3 hub.test\n192.0.2.1 hub.test\n"),
    );
    scene.enrols();
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_dead_ipv6_address_costs_little() {
    let scene = Scene::new();
    scene
        .hub
        .topology
        .network
        .drop_packets("ip6 daddr fd00:6d6f:6e73::1");
    let _server = NameServer::start(|_| Answer::Addresses(&["fd00:6d6f:6e73::1", "192.0.2.1"]));
    scene.enrols();
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn an_unknown_name_is_an_error_of_dns() {
    let scene = Scene::new();
    let _server = NameServer::start(|_| NXDOMAIN);
    scene.fails("cause: DNS: the name hub.test does not exist");
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_name_without_addresses_is_an_error_of_dns() {
    let scene = Scene::new();
    let _server = NameServer::start(|_| NO_ADDRESS);
    scene.fails("cause: DNS: the name hub.test has no address");
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_deadline_before_the_answer_of_a_dead_name_server_is_an_error_of_dns() {
    let scene = Scene::new();
    scene.fails("cause: DNS: no name server gave a usable answer for hub.test");
    scene.hub.write("resolv.conf", "");
    scene.fails("cause: DNS: no name server gave a usable answer for hub.test");
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn doctor_resolves_as_enrol_does() {
    let scene = Scene::new();
    let topology = &scene.hub.topology;
    let doctor = || {
        let agent = topology.host.agent(&["doctor", "--hub-url", &topology.url]);
        topology.run(scene.hub.with_resolver(agent)).stdout
    };
    let silent = doctor();
    let cause = "DNS: no name server gave a usable answer for hub.test";
    assert!(silent.contains(cause), "{silent}");
    let _server = NameServer::start(|question| ipv4_or(question, SERVFAIL));
    let found = doctor();
    assert!(found.contains("hub.test resolves to 192.0.2.1"), "{found}");
}
