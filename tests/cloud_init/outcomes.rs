//! First boots whose enrolment ends with another code than 0 on a host that is enrolled: the boot script
//! finishes its work, and only then reports what was left undone.

use std::fs;

use serde_json::json;

use crate::boot::Boot;
use crate::scene::{Scene, UNKNOWN};

/// The real agent finds a copy of the token on a read-only disk: settings, script and hook are gone, and
/// cloud-init reports the agent's 74.
#[test]
#[ignore = "needs root: makes mount namespaces"]
fn a_copy_of_the_token_on_a_read_only_disk_is_reported_at_the_end() {
    let scene = Scene::new();
    let host = scene.host("left-behind");
    let (agent, root) = (Scene::agent(), host.root.display());
    let install = format!(
        "seed={root}/var/lib/cloud/seed/nocloud\n\
         mkdir -p $seed /var/opt/monsys/bin\n\
         mount -t tmpfs tmpfs $seed\n\
         echo \"MONSYS_TOKEN=$MONSYS_TOKEN\" >$seed/user-data\n\
         mount -o remount,ro $seed\n\
         printf '#!/bin/sh\\nexec {agent} \"$@\" --root {root}\\n' >/var/opt/monsys/bin/monsys-agent\n\
         chmod 755 /var/opt/monsys/bin/monsys-agent\n\
         exec {agent} enrol --root {root} --scrub-cloud-init yes \"$@\""
    );
    let url = scene.install_sh("left-behind", &install);
    let token = scene.token();
    let more = json!({"extra_runcmd": ["echo said > /run/a"]});
    let look = "cat /run/a; ls /var/lib/monsys-boot 2>&1 | head -n 1; /var/opt/monsys/bin/monsys-agent status";
    let boot = scene.boot(&token, &url, &more, look);
    let is_reported = boot.is_failed()
        && boot.status.contains("scripts-per-boot")
        && boot.output.contains("seed/nocloud/user-data")
        && boot
            .output
            .contains("this host is enrolled, but install.sh ended with 74")
        && !boot.output.contains("not enrolled")
        && !boot.output.contains(&token);
    boot.expect(is_reported, "not reported");
    let is_finished = boot.left.is_empty()
        && boot.after.starts_with("said\nls: cannot access")
        && host.is_enrolled();
    boot.expect(is_finished, "not finished");
}

/// The same code of a run that never came as far as the hub: all stays for the next try.
#[test]
#[ignore = "needs root: makes mount namespaces"]
fn the_code_74_of_a_host_that_is_not_enrolled_is_a_failure() {
    let scene = Scene::new();
    let url = scene.install_sh("failed", "exit 74");
    let boot = scene.boot(UNKNOWN, &url, &json!({}), ":");
    let ok = boot.is_failed()
        && boot.output.contains("this host is not enrolled")
        && boot.output.contains("install.sh ended with 74")
        && boot.left.contains("/var/lib/monsys-boot/settings");
    boot.expect(ok, "treated as an enrolled host");
}

#[test]
#[ignore = "needs root: makes mount namespaces"]
fn a_host_that_was_enrolled_before_and_is_not_confirmed_now_is_accepted() {
    let scene = Scene::new();
    let install = "mkdir -p /opt/monsys/bin\n\
                   printf '#!/bin/sh\\nexit 75\\n' >/opt/monsys/bin/monsys-agent\n\
                   chmod 755 /opt/monsys/bin/monsys-agent\n\
                   exit 75";
    let url = scene.install_sh("unconfirmed", install);
    let boot = scene.boot(UNKNOWN, &url, &json!({}), ":");
    let ok = boot.is_done()
        && boot.output.contains("this host was enrolled before")
        && boot.left.is_empty();
    boot.expect(ok, "not accepted, or not reported");
}

/// The code that is for a host enrolled before, from a host that is not: the next try is due.
#[test]
#[ignore = "needs root: makes mount namespaces"]
fn the_code_75_of_a_host_that_is_not_enrolled_is_a_failure() {
    let scene = Scene::new();
    let url = scene.install_sh("temporary", "exit 75");
    let boot = scene.boot(UNKNOWN, &url, &json!({}), "cat /var/lib/monsys-boot/state");
    let ok = boot.is_failed()
        && boot.output.contains("this host is not enrolled yet")
        && boot.after.starts_with("state=trying\ncode=75\nerror=")
        && boot.left.contains("/var/lib/monsys-boot/settings");
    boot.expect(ok, "treated as an enrolled host");
}

/// At each boot of an enrolled host the script does nothing, and lays no token, whether the hub answers
/// or not.
#[test]
#[ignore = "needs root: makes mount namespaces"]
fn the_script_does_nothing_on_an_enrolled_host() {
    let scene = Scene::new();
    let url = scene.install_sh("away", "echo it ran");
    let path = scene.folder.path().join("away.sh");
    fs::write(&path, scene.script(UNKNOWN, &url, &json!({}))).unwrap();
    let look = format!(
        "mkdir /run/bin; export PATH=/run/bin:$PATH\n\
         for code in 0 75 78; do\n\
         printf '#!/bin/sh\\nexit %s\\n' $code >/run/bin/monsys-agent; chmod 755 /run/bin/monsys-agent\n\
         sh {}; echo \"$code: $?\"; [ ! -e /var/lib/monsys-boot ] || echo laid; done",
        path.display()
    );
    let boot = Boot::of("#cloud-config\n{}\n", &look);
    let ok = boot.after.trim() == "0: 0\n75: 0\nit ran\n78: 0";
    boot.expect(ok, "not left alone");
}
