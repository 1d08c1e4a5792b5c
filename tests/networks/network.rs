//! Two network namespaces and a link: the hub's, where the test runs, and the host's.

use crate::common::namespace::{Namespace, ip, tool};
use crate::common::needs_root;

const NFT: &str = "/usr/sbin/nft";
const TC: &str = "/sbin/tc";

/// Addresses of both ends of the link.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    pub(crate) hub: &'static str,
    pub(crate) host: &'static str,
    prefix: u8,
}

/// From the range for documentation (RFC 5737), which no network uses.
pub(crate) const IPV4: Link = Link {
    hub: "192.0.2.1",
    host: "192.0.2.2",
    prefix: 24,
};

pub(crate) const IPV6: Link = Link {
    hub: "fd00:6d6f:6e73::1",
    host: "fd00:6d6f:6e73::2",
    prefix: 64,
};

/// The networks of one test, whose thread is in the hub's until this is dropped.
pub(crate) struct Network {
    before: Namespace,
    hub: Namespace,
    host: Namespace,
}

impl Network {
    /// Makes namespaces of hub and host without a link.
    #[track_caller]
    pub(crate) fn new() -> Self {
        needs_root();
        let before = Namespace::own();
        let host = Namespace::fresh();
        let hub = Namespace::fresh();
        Self { before, hub, host }
    }

    /// Makes namespaces of hub and host with a link between them.
    pub(crate) fn with(link: Link) -> Self {
        let network = Self::new();
        let host = network.host.path();
        ip(&format!(
            "link add hub0 type veth peer name eth0 netns {host}"
        ));
        // `nodad`: an IPv6 address is usable at once, without a second of duplicate address detection.
        let plug = |end: &str, address: &str| {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            ip(&format!(
                "address add {address}/{} dev {end}{nodad}",
                link.prefix
            ));
            ip(&format!("link set {end} up"));
        };
        plug("hub0", link.hub);
        network.on_host(|| plug("eth0", link.host));
        network
    }

    /// Runs `task` and its child processes in the host's namespace.
    pub(crate) fn on_host<T>(&self, task: impl FnOnce() -> T) -> T {
        self.host.inside(&self.hub, task)
    }

    /// Runs a program in the hub's namespace.
    fn on_hub(&self, program: &str, arguments: &[&str]) -> String {
        self.hub.enter();
        tool(program, arguments)
    }

    pub(crate) fn link_down(&self) {
        self.hub.enter();
        ip("link set hub0 down");
    }

    pub(crate) fn link_up(&self) {
        self.hub.enter();
        ip("link set hub0 up");
    }

    /// Limits the rate towards the host to 16 kbit/s; packets beyond are queued.
    pub(crate) fn limit_rate(&self) {
        let slow = "qdisc add dev hub0 root tbf rate 16kbit burst 1600 latency 30s";
        self.on_hub(TC, &slow.split(' ').collect::<Vec<_>>());
    }

    /// Drops the packets of both directions that match `which`, an expression of nft(8).
    pub(crate) fn drop_packets(&self, which: &str) {
        for (hook, interface) in [("input", "iifname"), ("output", "oifname")] {
            let chain = format!("{{ type filter hook {hook} priority 0; }}");
            let rule = format!("{interface} hub0 {which} counter drop");
            for arguments in [
                &["add", "table", "inet", hook][..],
                &["add", "chain", "inet", hook, "loss", &chain],
                &["add", "rule", "inet", hook, "loss", &rule],
            ] {
                self.on_hub(NFT, arguments);
            }
        }
    }

    /// Adds the addresses of another link to the same cable.
    pub(crate) fn add(&self, link: Link) {
        let address = |end: &str, address: &str| {
            ip(&format!(
                "address add {address}/{} dev {end} nodad",
                link.prefix
            ));
        };
        self.hub.enter();
        address("hub0", link.hub);
        self.on_host(|| address("eth0", link.host));
    }

    /// Drops no packets any more.
    pub(crate) fn drop_no_packets(&self) {
        self.on_hub(NFT, &["flush", "ruleset"]);
    }

    /// Returns the number of dropped packets in the direction of `hook`.
    pub(crate) fn dropped_packets(&self, hook: &str) -> u64 {
        let listed = self.on_hub(NFT, &["list", "table", "inet", hook]);
        let (_, after) = listed.split_once("counter packets ").unwrap();
        after.split(' ').next().unwrap().parse().unwrap()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.before.enter();
    }
}
