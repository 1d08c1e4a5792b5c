//! Two network namespaces and a cable: the hub's, in which the test runs, and the host's.

use crate::common::namespace::{Namespace, ip, tool};
use crate::common::needs_root;

const NFT: &str = "/usr/sbin/nft";
const TC: &str = "/sbin/tc";

/// Addresses of both ends of the cable.
#[derive(Clone, Copy)]
pub(crate) struct Cable {
    pub(crate) hub: &'static str,
    pub(crate) host: &'static str,
    prefix: u8,
}

/// From the range for documentation (RFC 5737), which no network uses.
pub(crate) const IPV4: Cable = Cable {
    hub: "192.0.2.1",
    host: "192.0.2.2",
    prefix: 24,
};

pub(crate) const IPV6: Cable = Cable {
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
    /// Hub and host without any way between them.
    #[track_caller]
    pub(crate) fn new() -> Self {
        needs_root();
        let before = Namespace::own();
        let host = Namespace::fresh();
        let hub = Namespace::fresh();
        Self { before, hub, host }
    }

    /// Hub and host with a cable between them.
    pub(crate) fn with(cable: Cable) -> Self {
        let network = Self::new();
        let host = network.host.path();
        ip(&format!(
            "link add cable type veth peer name eth0 netns {host}"
        ));
        // `nodad`: an IPv6 address is there at once, not after a second of looking for others.
        let plug = |end: &str, address: &str| {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            ip(&format!(
                "address add {address}/{} dev {end}{nodad}",
                cable.prefix
            ));
            ip(&format!("link set {end} up"));
        };
        plug("cable", cable.hub);
        network.on_host(|| plug("eth0", cable.host));
        network
    }

    /// Runs `task`, and whatever it starts, on the host's side.
    pub(crate) fn on_host<T>(&self, task: impl FnOnce() -> T) -> T {
        self.host.inside(&self.hub, task)
    }

    /// Runs a program at the hub's end of the cable.
    fn at_the_cable(&self, program: &str, arguments: &[&str]) -> String {
        self.hub.enter();
        tool(program, arguments)
    }

    pub(crate) fn cut(&self) {
        self.hub.enter();
        ip("link set cable down");
    }

    pub(crate) fn hint(&self) {
        self.hub.enter();
        ip("link set cable up");
    }

    /// Lets no more than 16 kbit/s through to the host; what comes faster has to wait.
    pub(crate) fn slow_down(&self) {
        let slow = "qdisc add dev cable root tbf rate 16kbit burst 1600 latency 30s";
        self.at_the_cable(TC, &slow.split(' ').collect::<Vec<_>>());
    }

    /// Loses packets of each direction that match, in the language of nft.
    pub(crate) fn lose(&self, which: &str) {
        for (hook, interface) in [("input", "iifname"), ("output", "oifname")] {
            let chain = format!("{{ type filter hook {hook} priority 0; }}");
            let rule = format!("{interface} cable {which} counter drop");
            for arguments in [
                &["add", "table", "inet", hook][..],
                &["add", "chain", "inet", hook, "loss", &chain],
                &["add", "rule", "inet", hook, "loss", &rule],
            ] {
                self.at_the_cable(NFT, arguments);
            }
        }
    }

    /// Loses no packet any more.
    pub(crate) fn lose_none(&self) {
        self.at_the_cable(NFT, &["flush", "ruleset"]);
    }

    /// How many packets have been lost in the direction of `hook`.
    pub(crate) fn lost(&self, hook: &str) -> u64 {
        let listed = self.at_the_cable(NFT, &["list", "table", "inet", hook]);
        let (_, after) = listed.split_once("counter packets ").unwrap();
        after.split(' ').next().unwrap().parse().unwrap()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.before.enter();
    }
}
