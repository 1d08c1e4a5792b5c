//! The network of one test: the hub's end, where the test runs, and the hosts.

use std::cell::Cell;
use std::path::Path;

use mock_hub::Options;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::common::namespace::{Namespace, ip};
use crate::common::{HubProcess, TestHub};
use crate::disk::Disk;
use crate::machine::Machine;

/// The hub's address, from the range for documentation (RFC 5737), which no network uses.
const HUB: &str = "192.0.2.1";

/// A switch with the hub on it. No other network can be reached from it.
pub(crate) struct Lan {
    before: Namespace,
    hub: Namespace,
    hosts: Cell<u8>,
}

impl Lan {
    /// Moves this thread to the hub's end, into a private mount namespace.
    pub(crate) fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none: Option<&Path> = None;
        let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(none, "/", none, flags, none).unwrap();
        let before = Namespace::own();
        let hub = Namespace::fresh();
        ip("link add switch type bridge");
        ip(&format!("address add {HUB}/24 dev switch"));
        ip("link set switch up");
        Self {
            before,
            hub,
            hosts: Cell::new(0),
        }
    }

    /// Starts a hub at port 8443 that serves the release.
    pub(crate) fn hub(&self) -> TestHub {
        self.hub.enter();
        TestHub::with(Options {
            listen: format!("{HUB}:8443").parse().unwrap(),
            dist: Some(crate::prepared::dist()),
            ..Options::default()
        })
    }

    /// Starts a hub at port 8443 as a process of its own, which requests a heartbeat every second.
    pub(crate) fn hub_process(&self) -> HubProcess {
        self.hub.enter();
        HubProcess::at(format!("{HUB}:8443").parse().unwrap(), 1)
    }

    /// Boots the disk with a new address, and waits until the host is up.
    pub(crate) fn boot<'a>(&self, disk: &'a Disk) -> Machine<'a> {
        self.start(disk).up()
    }

    /// Boots the disk and does not wait.
    pub(crate) fn start<'a>(&self, disk: &'a Disk) -> Machine<'a> {
        let number = self.hosts.get() + 1;
        self.hosts.set(number);
        let host = Namespace::fresh();
        self.hub.enter();
        let cable = format!("host{number}");
        let path = host.path();
        ip(&format!(
            "link add {cable} type veth peer name eth0 netns {path}"
        ));
        ip(&format!("link set {cable} master switch up"));
        host.inside(&self.hub, || {
            ip(&format!("address add 192.0.2.{}/24 dev eth0", 10 + number));
            ip("link set eth0 up");
        });
        Machine::start(disk, host)
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        self.before.enter();
    }
}
