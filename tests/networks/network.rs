//! Two network namespaces and a cable: the hub's, in which the test runs, and the host's.
//!
//! They have no names. They live as long as something holds them open, so that nothing is left of
//! them even when the test is killed.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns, unshare};

const IP: &str = "/sbin/ip";
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
    before: File,
    hub: File,
    host: File,
}

impl Network {
    /// Hub and host without any way between them.
    pub(crate) fn new() -> Self {
        let before = own();
        let fresh = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            run(IP, &["link", "set", "lo", "up"]);
            own()
        };
        let host = fresh();
        let hub = fresh();
        Self { before, hub, host }
    }

    /// Hub and host with a cable between them.
    pub(crate) fn with(cable: Cable) -> Self {
        let network = Self::new();
        let host = format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            network.host.as_raw_fd()
        );
        run(
            IP,
            &[
                "link", "add", "cable", "type", "veth", "peer", "name", "eth0", "netns", &host,
            ],
        );
        // `nodad`: an IPv6 address is there at once, not after a second of looking for others.
        let plug = |end: &str, address: &str| {
            let address = format!("{address}/{}", cable.prefix);
            let mut add = vec!["address", "add", &address, "dev", end];
            if address.contains(':') {
                add.push("nodad");
            }
            run(IP, &add);
            run(IP, &["link", "set", end, "up"]);
        };
        plug("cable", cable.hub);
        network.on_host(|| plug("eth0", cable.host));
        network
    }

    /// Runs `task`, and whatever it starts, on the host's side.
    pub(crate) fn on_host<T>(&self, task: impl FnOnce() -> T) -> T {
        enter(&self.host);
        let result = catch_unwind(AssertUnwindSafe(task));
        enter(&self.hub);
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Runs a program at the hub's end of the cable.
    fn at_the_cable(&self, program: &str, arguments: &[&str]) -> String {
        enter(&self.hub);
        run(program, arguments)
    }

    pub(crate) fn cut(&self) {
        self.at_the_cable(IP, &["link", "set", "cable", "down"]);
    }

    pub(crate) fn mend(&self) {
        self.at_the_cable(IP, &["link", "set", "cable", "up"]);
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
        enter(&self.before);
    }
}

/// Puts this thread, and what it starts from now on, into a namespace.
fn enter(namespace: &File) {
    setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
}

/// The namespace that this thread is in.
fn own() -> File {
    File::open("/proc/thread-self/ns/net").unwrap()
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|why| panic!("{program}: {why} (`cargo xtask test networks` installs it)"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
