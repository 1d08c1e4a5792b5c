//! A run of install.sh on a machine.

use std::io::Write;
use std::process::{Command, Stdio};

use mock_hub::Options;

use crate::common::{Run, TestHub};
use crate::machine::Machine;
use crate::release::Release;

/// Where the hub's CA is on the machine.
pub(crate) const CA: &str = "/etc/ssl/hub-ca.pem";

/// A hub that is a mirror of `release`, and whose CA the machine has.
pub(crate) fn mirror(release: &Release, machine: &Machine) -> TestHub {
    let hub = TestHub::with(Options {
        dist: Some(release.path("")),
        ..Options::default()
    });
    let ca = std::fs::read(hub.ca_file().unwrap()).unwrap();
    machine.lay(&CA[1..], &ca);
    hub
}

/// The same over plain http: `BusyBox`'s own TLS and this hub's find no common cipher. It verifies no
/// certificate anyway; what comes down is verified all the same.
pub(crate) fn plain_mirror(release: &Release) -> TestHub {
    TestHub::with(Options {
        dist: Some(release.path("")),
        http: true,
        ..Options::default()
    })
}

/// Has the machine nothing but `BusyBox` to download with.
pub(crate) fn leave_busybox_alone(machine: &Machine) {
    machine.without("curl");
    machine.program("usr/bin/wget", "#!/bin/sh\nexec busybox wget \"$@\"\n");
}

/// Leaves the machine nothing to download with but a stand-in for the wget of an old `BusyBox`, which takes
/// a body that ends too early for a complete one. That of a newer `BusyBox` fails there.
pub(crate) fn leave_old_busybox_alone(machine: &Machine) {
    let curl = std::fs::read(machine.path("usr/bin/curl")).unwrap();
    machine.program("srv/curl", curl);
    machine.without("curl");
    machine.program(
        "usr/bin/wget",
        r#"#!/bin/sh
[ "$1 $2" = "-q -O" ] || { echo "Usage: wget [-q] [-O FILE] URL" >&2; exit 1; }
/srv/curl -fsS -o "$3" "$4" || [ $? = 18 ]
"#,
    );
}

/// What a host gets from the hub's /install.sh.
pub(crate) fn served(release: &Release, hub: &TestHub) -> String {
    release
        .script()
        .lines()
        .map(|line| {
            if line.starts_with("DEFAULT_DOWNLOAD_URL=") {
                format!("DEFAULT_DOWNLOAD_URL='{}/dist'\n", hub.url())
            } else if line.starts_with("DEFAULT_HUB_URL=") {
                format!("DEFAULT_HUB_URL='{}'\n", hub.url())
            } else {
                format!("{line}\n")
            }
        })
        .collect()
}

/// `… | SHELL`, with the hub's CA and `variables` in the environment.
pub(crate) fn piped(
    machine: &Machine,
    shell: &[&str],
    script: &str,
    variables: &[(&str, &str)],
) -> Run {
    let mut command = machine.command(shell);
    command
        .env("MONSYS_CA_FILE", CA)
        .envs(variables.iter().copied());
    feed(command, script)
}

/// Runs a command with this on its standard input.
pub(crate) fn feed(mut command: Command, input: &str) -> Run {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    // A shell that stops early reads none of the rest.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    Run::of(child)
}
