//! Booted hosts: the release installed by its one-liner and by its packages, and every way in.

use tokio::process::Command;

use super::{Count, ansible, rust};
use crate::dist::{self, arch::Arch};
use crate::error::{Result, Stop};
use crate::{process, tools, trees};

/// What the tests run, and Debian's package of it.
const PROGRAMS: [(&str, &str); 5] = [
    ("/sbin/ip", "iproute2"),
    ("/usr/bin/mmdebstrap", "mmdebstrap"),
    ("/usr/bin/rpm", "rpm"),
    ("/usr/bin/ssh", "openssh-client"),
    ("/usr/bin/systemd-nspawn", "systemd-container"),
];

pub(crate) async fn run() -> Result<Count> {
    let mut namespaces = Command::new("unshare");
    namespaces.args(["--net", "--mount", "true"]);
    if !nix::unistd::geteuid().is_root() || process::run(&mut namespaces).await.is_err() {
        return Err(Stop::missing("needs root, and leave to make namespaces"));
    }
    tools::programs(&PROGRAMS).await?;
    let trees = trees::all().await?;
    let release = dist::Options {
        arch: vec![Arch::X86_64],
        ..dist::Options::default()
    };
    let older = dist::Options {
        package_version: Some("0.0.9".into()),
        ..release.clone()
    };
    let older = dist::run(&older).await?;
    let dist = dist::run(&release).await?;
    let ansible = ansible::venv().await?;
    rust::cargo_test_with(
        &["--package=monsys-agent", "--test=hosts"],
        &[
            ("MONSYS_TEST_ANSIBLE", ansible.as_os_str()),
            ("MONSYS_TEST_DIST", dist.as_os_str()),
            ("MONSYS_TEST_OLDER", older.as_os_str()),
            ("MONSYS_TEST_TREES", trees.as_os_str()),
        ],
    )
    .await
}
