//! The agent and the hub with real proxies, lossy and cut cables, and failing names between them.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use tokio::process::Command;

use super::{Count, rust};
use crate::error::{Context as _, Result, Stop};
use crate::{process, tools};

/// What the tests run, and Debian's package of it.
const PROGRAMS: [(&str, &str); 7] = [
    ("/sbin/ip", "iproute2"),
    ("/usr/bin/htpasswd", "apache2-utils"),
    ("/usr/sbin/dnsmasq", "dnsmasq-base"),
    ("/usr/sbin/haproxy", "haproxy"),
    ("/usr/sbin/nft", "nftables"),
    ("/usr/sbin/nginx", "nginx-light"),
    ("/usr/sbin/squid", "squid"),
];

/// Debian asks this file whether an installed service may start.
const POLICY: &str = "/usr/sbin/policy-rc.d";

pub(crate) async fn run() -> Result<Count> {
    let mut namespace = Command::new("unshare");
    namespace.args(["--net", "true"]);
    if !nix::unistd::geteuid().is_root() || process::run(&mut namespace).await.is_err() {
        return Err(Stop::missing("needs root, and leave to make networks"));
    }
    let missing: Vec<_> = PROGRAMS
        .iter()
        .filter(|(program, _)| !Path::new(program).exists())
        .map(|(_, package)| *package)
        .collect();
    if !missing.is_empty() {
        let _no_services = NoServices::new()?;
        tools::apt(&missing).await?;
    }
    rust::cargo_test(&["--package=monsys-agent", "--test=networks"]).await
}

/// While it lives, no package that is installed starts a service. Each test starts its own.
struct NoServices {
    /// Whether the file is ours to remove: who has one already has said what may start.
    made: bool,
}

impl NoServices {
    fn new() -> Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(POLICY);
        match file {
            Ok(mut file) => {
                let policy = Self { made: true };
                file.write_all(b"#!/bin/sh\nexit 101\n")
                    .context(|| format!("could not write {POLICY}"))?;
                Ok(policy)
            }
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => Ok(Self { made: false }),
            Err(why) => Err(why).context(|| format!("could not make {POLICY}")),
        }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.made {
            let _ = fs::remove_file(POLICY);
        }
    }
}
