//! First boots with a /var that is mounted noexec, as hardened images have it: cloud-init executes none of its
//! scripts there, and its version 22.4.2 does not report that.

use std::fs;

use serde_json::json;

use crate::boot::Boot;
use crate::scene::{Scene, UNKNOWN};

#[test]
#[ignore = "needs root: makes mount namespaces"]
fn a_host_with_a_noexec_var_is_enrolled() {
    let scene = Scene::new();
    let host = scene.host("noexec");
    let inputs = scene.inputs(&scene.token(), &host.install_url, &json!({}));
    let user_data = scene.terraform.render_one(inputs).cloud_init;
    let boot = Boot::noexec(&user_data, "cp /bin/true /var/lib/true; /var/lib/true");
    boot.expect(boot.after.contains("exit 126"), "/var/lib is not noexec");
    let ok = boot.is_done() && host.is_enrolled() && boot.left.is_empty();
    boot.expect(ok, "not enrolled");
}

#[test]
#[ignore = "needs root: makes mount namespaces"]
fn a_failure_with_a_noexec_var_is_reported() {
    let scene = Scene::new();
    let host = scene.host("noexec-refused");
    let inputs = scene.inputs(UNKNOWN, &host.install_url, &json!({}));
    let user_data = scene.terraform.render_one(inputs).cloud_init;
    let boot = Boot::noexec(&user_data, "");
    let ok = boot.is_failed() && boot.status.contains("scripts-per-boot");
    boot.expect(ok && !host.is_enrolled(), "not reported");
}

/// A later part that replaces `bootcmd` takes the link away: without noexec, all is as with it.
#[test]
#[ignore = "needs root: makes mount namespaces"]
fn a_part_that_replaces_bootcmd_does_not_prevent_the_enrolment() {
    let scene = Scene::new();
    let host = scene.host("replaced-bootcmd");
    let inputs = scene.inputs(&scene.token(), &host.install_url, &json!({}));
    let user_data = scene.terraform.render_one(inputs).cloud_init;
    let archive = json!([
        {"type": "text/cloud-config", "content": user_data},
        {"type": "text/cloud-config", "content": "#cloud-config\nbootcmd: [[touch, /run/theirs]]\n"},
    ]);
    let boot = Boot::of(
        format!("#cloud-config-archive\n{archive}\n"),
        "ls /run/theirs",
    );
    let ok = boot.is_done()
        && host.is_enrolled()
        && boot.left.is_empty()
        && boot.after == "/run/theirs\n";
    boot.expect(ok, "not enrolled");
}

/// The settings are gone, and the copies that only cloud-init could remove are named.
#[test]
#[ignore = "needs root: makes mount namespaces"]
fn giving_up_removes_the_settings_and_names_each_copy_of_the_token() {
    let scene = Scene::new();
    let host = scene.host("given-up");
    let again = "sh /var/lib/monsys-boot/boot.sh at-boot; echo \"at boot $?\"\n\
                 sh /var/lib/monsys-boot/boot.sh give-up";
    let boot = scene.boot(UNKNOWN, &host.install_url, &json!({}), again);
    let is_reported = boot.output.contains("only an operator tries again")
        && boot
            .output
            .contains("The token is still in /var/lib/monsys-boot/settings /var/lib/cloud/")
        && boot.after.contains("at boot 77")
        && !boot.after.contains("sending a request");
    boot.expect(is_reported, "not reported");
    let is_gone = boot.left.is_empty()
        && boot
            .after
            .contains("the settings are removed, and the token is still in /var/lib/cloud/")
        && boot.after.ends_with("exit 74\n");
    boot.expect(is_gone, "not removed");
    assert!(fs::metadata("/etc/monsys-boot").is_err());
}
