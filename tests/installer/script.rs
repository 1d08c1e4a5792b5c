//! Runs of install.sh on a machine.

use std::io::Write;
use std::process::{Command, Stdio};

use mock_hub::Options;

use crate::common::{Run, TestHub};
use crate::machine::Machine;
use crate::release::Release;

/// Path of the hub's CA on the machine.
pub(crate) const CA: &str = "/etc/ssl/hub-ca.pem";

/// Settings of curl and of wget that make each download fail.
pub(crate) const CURLRC: &str = "proxy = http://127.0.0.1:1\ninclude\n";
pub(crate) const WGETRC: &str = "https_proxy = http://127.0.0.1:1\n";

/// Starts a hub that serves `release`, and installs its CA on the machine.
pub(crate) fn mirror(release: &Release, machine: &Machine) -> TestHub {
    let hub = TestHub::with(Options {
        dist: Some(release.path("")),
        ..Options::default()
    });
    let ca = std::fs::read(hub.ca_file().unwrap()).unwrap();
    machine.write_file(&CA[1..], &ca);
    hub
}

/// Starts a mirror over plain http: the TLS of `BusyBox` and this hub have no common cipher, and it verifies
/// no certificate. The download is verified by its checksum.
pub(crate) fn http_mirror(release: &Release) -> TestHub {
    TestHub::with(Options {
        dist: Some(release.path("")),
        http: true,
        ..Options::default()
    })
}

/// Makes the wget of `BusyBox` the only downloader of the machine.
pub(crate) fn only_busybox_wget(machine: &Machine) {
    machine.remove_program("curl");
    machine.program("usr/bin/wget", "#!/bin/sh\nexec busybox wget \"$@\"\n");
}

/// Makes a stand-in for the wget of an old `BusyBox` the only downloader of the machine. The stand-in
/// accepts a body that ends too early, where the wget of a newer `BusyBox` fails.
pub(crate) fn only_old_busybox_wget(machine: &Machine) {
    let curl = std::fs::read(machine.path("usr/bin/curl")).unwrap();
    machine.program("srv/curl", curl);
    machine.remove_program("curl");
    machine.program(
        "usr/bin/wget",
        r#"#!/bin/sh
[ "$1 $2" = "-q -O" ] || { echo "Usage: wget [-q] [-O FILE] URL" >&2; exit 1; }
/srv/curl -fsS -o "$3" "$4" || [ $? = 18 ]
"#,
    );
}

/// Returns install.sh as the hub serves it.
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

/// Runs `… | SHELL` with the hub's CA and `variables` in the environment.
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

/// Runs a command with `input` on its standard input.
pub(crate) fn feed(mut command: Command, input: &str) -> Run {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    // A shell that exits early does not read the rest.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    Run::of(child)
}
