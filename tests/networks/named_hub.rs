//! A hub with a name, and a host whose resolver reads files of the test.

use std::process::Command;

use crate::authority::Authority;
use crate::common::Prepared;
use crate::network::{IPV4, IPV6};
use crate::server::Server;
use crate::topology::Topology;

/// One name server, on the hub's machine.
pub(crate) const RESOLV_CONF: &str = "nameserver 192.0.2.1\n";
pub(crate) const HOSTS: &str = "127.0.0.1 localhost\n";

/// A host, and a hub behind nginx that has addresses of both families.
pub(crate) struct NamedHub {
    _proxy: Server,
    pub(crate) topology: Topology,
}

impl NamedHub {
    /// Makes a hub of this name.
    pub(crate) fn new(name: &str) -> Self {
        let authority = Authority::new();
        let topology = Topology::behind(IPV4, &format!("https://{name}"), &authority.pem());
        topology.network.add(IPV6);
        let named = Self {
            _proxy: Server::nginx(&authority.issue(name), "", ""),
            topology,
        };
        named.write("resolv.conf", RESOLV_CONF);
        named.write("hosts", HOSTS);
        named.write("nsswitch.conf", "hosts: files dns\n");
        named
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        self.topology.host.write_file(name, text);
    }

    pub(crate) fn enrol(&self, more: &[&str]) -> Prepared {
        self.with_resolver(self.topology.enrol(more))
    }

    /// Runs the agent in a mount namespace where the files of this host's resolver are the system's.
    pub(crate) fn with_resolver(&self, agent: Prepared) -> Prepared {
        let script = "for file in resolv.conf nsswitch.conf hosts; do
              mount --bind \"$0/$file\" \"$(readlink -f /etc/$file)\" || exit 1
            done
            exec \"$@\"";
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
        agent.under(&mut wrapper)
    }
}
