//! The agent and the hub with real proxies, lossy and cut cables, and failing names between them.

use tokio::process::Command;

use super::{Count, rust};
use crate::error::{Result, Stop};
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

pub(crate) async fn run() -> Result<Count> {
    let mut namespace = Command::new("unshare");
    namespace.args(["--net", "true"]);
    if !nix::unistd::geteuid().is_root() || process::run(&mut namespace).await.is_err() {
        return Err(Stop::missing("needs root, and leave to make networks"));
    }
    tools::programs(&PROGRAMS).await?;
    let what = [
        "--package=monsys-agent",
        "--test=networks",
        "--",
        "--include-ignored",
    ];
    rust::cargo_test(&what).await
}
