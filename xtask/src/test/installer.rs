//! install.sh and `monsys-agent install` on whole machines: this one, under an overlay.

use std::path::Path;

use tokio::process::Command;

use super::{Count, rust};
use crate::error::{Result, Stop};
use crate::{process, tools};

/// What the tests run, and Debian's package of it.
const PROGRAMS: [(&str, &str); 12] = [
    ("/bin/bash", "bash"),
    ("/bin/busybox", "busybox"),
    ("/bin/dash", "dash"),
    ("/bin/mksh", "mksh"),
    ("/bin/zsh", "zsh"),
    ("/usr/bin/curl", "curl"),
    ("/usr/bin/minisign", "minisign"),
    ("/usr/bin/openssl", "openssl"),
    ("/usr/bin/strace", "strace"),
    ("/usr/bin/sudo", "sudo"),
    ("/usr/bin/systemd-analyze", "systemd"),
    ("/usr/bin/wget", "wget"),
];

pub(crate) async fn run() -> Result<Count> {
    let mut namespace = Command::new("unshare");
    namespace.args(["--mount", "true"]);
    if !nix::unistd::geteuid().is_root() || process::run(&mut namespace).await.is_err() {
        return Err(Stop::missing("needs root, and leave to mount"));
    }
    let missing: Vec<_> = PROGRAMS
        .iter()
        .filter(|(program, _)| !Path::new(program).exists())
        .map(|(_, package)| *package)
        .collect();
    if !missing.is_empty() {
        tools::apt(&missing).await?;
    }
    let what = [
        "--package=monsys-agent",
        "--test=installer",
        "--",
        "--include-ignored",
        "--nocapture",
    ];
    rust::cargo_test(&what).await
}
