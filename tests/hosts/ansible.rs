//! The Ansible role, run over ssh on booted hosts. Its output at full verbosity, and the arguments of all
//! processes meanwhile, are searched for the token.
#![allow(
    clippy::print_stdout,
    reason = "how much was looked at, for who runs it by hand"
)]

pub(crate) mod controller;
mod cores;
mod image;
mod install_methods;
mod leaks;
mod lock;
mod read_only;
mod vectors;
mod versions;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::common::TestHub;
use crate::disk::{Disk, Entry};
use crate::lan::Lan;
use crate::machine::Machine;
use crate::one_liner::{self, expect_in_service, expect_no_trace};
use crate::prepared::program;
use controller::{Controller, TOKEN};

/// The variables of the role in every test.
pub(crate) fn settings(hub: &TestHub) -> Value {
    json!({
        "monsys_agent_hub_url": hub.url(),
        "monsys_agent_ca_pem": fs::read_to_string(hub.ca_file().unwrap()).unwrap(),
        "monsys_agent_method": "binary",
        "monsys_agent_binary": program(),
    })
}

/// Makes a host that Ansible can reach.
fn scene<'a>(lan: &Lan, disk: &'a Disk, groups: &[&str]) -> (Machine<'a>, Controller) {
    let host = lan.boot(disk);
    let controller = Controller::new();
    controller.adopt(&host, groups);
    (host, controller)
}

fn with(mut settings: Value, key: &str, value: impl Into<Value>) -> Value {
    settings[key] = value.into();
    settings
}

/// Returns the differences between two states of a host, except for the folders that Ansible makes for its
/// modules and Debian's rpm for its database.
fn differences(
    before: &BTreeMap<PathBuf, Entry>,
    after: &BTreeMap<PathBuf, Entry>,
) -> Vec<PathBuf> {
    let mut differing = one_liner::differences(before, after);
    differing.retain(|path| {
        let is_ansibles = path.ends_with(".ansible") || path.ends_with(".ansible/tmp");
        !is_ansibles && !path.starts_with("root/.rpmdb") && !path.starts_with("var/lib/rpm")
    });
    differing
}

fn tags(hub: &TestHub) -> Value {
    hub.agents()[0]["tags"].clone()
}

/// Checks that neither the controller nor the host has the token.
#[track_caller]
fn expect_no_trace_anywhere(controller: &Controller, host: &Machine<'_>, token: &str) {
    let read = expect_no_trace(host, token);
    assert_eq!(controller.files_with(token), Vec::<PathBuf>::new());
    println!(
        "{}: {read} files read, none contains the token",
        host.disk.name
    );
}

#[test]
fn the_role_enrols_changes_and_removes_a_host() {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = hub.token();
    let disk = Disk::debian("bookworm", "web-1");
    let (host, controller) = scene(&lan, &disk, &["web", "eu_north"]);
    let settings = settings(&hub);
    let fresh = disk.entries();

    // Check mode on a bare host writes nothing, and predicts what a run will do.
    let checked = controller
        .role(&token, &settings, &["--check"])
        .expect_success();
    let checked = checked.expect_no_secret(&token, "ansible-playbook");
    assert_eq!(differences(&fresh, &disk.entries()), Vec::<PathBuf>::new());
    assert_eq!(hub.agents().len(), 0);

    let first = controller.role(&token, &settings, &[]).expect_success();
    let first = first.expect_no_secret(&token, "enrol --output json");
    assert!(first.changed("web-1") > 0);
    assert_eq!(first.changed("web-1"), checked.changed("web-1"));
    hub.expect_one_slot();
    assert_eq!(
        tags(&hub),
        json!(["prod", "eu-west", "web", "eu_north"]),
        "the token's tags, then the groups"
    );
    expect_in_service(&hub, &host);
    expect_no_trace_anywhere(&controller, &host, &token);

    // A second run, with and without --check, changes nothing and needs no token.
    // Files planted by the service's user mislead none of the role's commands.
    crate::privilege::plant(&host);
    let enrolled = disk.entries();
    let pid = host.run_ok("systemctl show --value --property=MainPID monsys-agent");
    for options in [&["--check"][..], &[]] {
        let again = controller.role("", &settings, options).expect_success();
        assert_eq!(again.changed("web-1"), 0, "{}", again.output);
    }
    let state = PathBuf::from("var/lib/monsys/state.json");
    let mut touched = differences(&enrolled, &disk.entries());
    let lock = PathBuf::from("var/lib/monsys/lock");
    touched.retain(|path| *path != state && *path != lock);
    assert_eq!(touched, Vec::<PathBuf>::new());
    let still = host.run_ok("systemctl show --value --property=MainPID monsys-agent");
    assert_eq!(still, pid);

    // Other tags are registered with the host's own credential.
    let other = with(settings.clone(), "monsys_agent_tags", "shard-3, canary");
    for options in [&["--check"][..], &[]] {
        let changed = controller.role("", &other, options).expect_success();
        assert_eq!(changed.changed("web-1"), 1, "{}", changed.output);
    }
    assert_eq!(
        tags(&hub),
        json!(["prod", "eu-west", "web", "shard-3", "canary"])
    );
    hub.expect_one_slot();
    let again = controller.role("", &other, &[]).expect_success();
    assert_eq!(again.changed("web-1"), 0);
    expect_in_service(&hub, &host);

    // Without purge the identity stays, and the host enrols again as the same agent.
    let gone = with(other.clone(), "monsys_agent_state", "absent");
    let left = controller.role("", &gone, &[]).expect_success();
    assert!(left.changed("web-1") > 0);
    assert!(!disk.exists("usr/local/bin/monsys-agent"));
    let again = controller.role("", &gone, &[]).expect_success();
    assert_eq!(again.changed("web-1"), 0, "{}", again.output);
    controller.role("", &other, &[]).expect_success();
    hub.expect_one_slot();
    expect_in_service(&hub, &host);

    // With purge nothing stays, on the host or at the hub.
    let purged = with(gone, "monsys_agent_purge", true);
    controller.role("", &purged, &["--check"]).expect_success();
    assert_eq!(hub.agents().len(), 1);
    controller.role("", &purged, &[]).expect_success();
    assert_eq!(differences(&fresh, &disk.entries()), Vec::<PathBuf>::new());
    assert_eq!(hub.agents().len(), 0);
    let again = controller.role("", &purged, &[]).expect_success();
    assert_eq!(again.changed("web-1"), 0, "{}", again.output);
}

#[test]
fn a_rejected_enrolment_fails_the_play_with_its_reason() {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = format!("{}x", hub.token());
    let disk = Disk::debian("bookworm", "web-1");
    let (host, controller) = scene(&lan, &disk, &[]);
    let settings = settings(&hub);

    // Check mode reports the failure of a real run.
    let none = controller.role("", &settings, &["--check"]);
    none.expect_failure(&["monsys_agent_token"]);

    let rejected = controller.role(&token, &settings, &[]);
    let rejected =
        rejected.expect_failure(&["what: the hub rejected the token", "cause: ", "hint: "]);
    let _ = rejected.expect_no_secret(&token, "enrol --output json");
    assert_eq!(hub.agents().len(), 0);
    assert_ne!(host.run("systemctl is-active monsys-agent").code, 0);
    expect_no_trace_anywhere(&controller, &host, &token);

    // An invalid token is not repeated either.
    let nested =
        json!({"monsys_agent_token": {"token": format!("{{{{ lookup('env', '{TOKEN}') }}}}")}});
    let options = ["--check", "--extra-vars", &nested.to_string()];
    let wrong = controller.role(&token, &settings, &options);
    let wrong = wrong.expect_failure(&["the token is malformed"]);
    let _ = wrong.expect_no_secret(&token, "ansible-playbook");

    // The next run with the right token continues.
    let right = hub.token();
    controller.role(&right, &settings, &[]).expect_success();
    hub.expect_one_slot();
    expect_in_service(&hub, &host);
}

/// A failed scrub is reported after the enrolment is complete.
#[test]
fn the_play_completes_an_enrolled_host_before_it_fails() {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = hub.token();
    let disk = Disk::debian("bookworm", "web-1");
    let (host, controller) = scene(&lan, &disk, &[]);
    let settings = settings(&hub);
    let seed = "var/lib/cloud/seed/nocloud";
    disk.write(&format!("{seed}/user-data"), &format!("T={token}\n"));
    host.run_ok(&format!(
        "mount --bind /{seed} /{seed} && mount -o remount,bind,ro /{seed}
        mkdir -p /etc/monsys && echo 'scrub_cloud_init = \"yes\"' >/etc/monsys/agent.toml"
    ));
    for _ in 0..2 {
        let played = controller.role(&token, &settings, &[]).expect_failure(&[
            "a step is still open (exit code 74)",
            "nocloud/user-data",
            "what: ",
        ]);
        let _ = played.expect_no_secret(&token, "ansible-playbook");
        hub.expect_one_slot();
        expect_in_service(&hub, &host);
        let enabled = host.run("systemctl is-enabled monsys-agent").stdout;
        assert_eq!(enabled.trim(), "enabled");
    }
    host.run_ok(&format!("umount /{seed} && rm -r /var/lib/cloud/seed"));
    let again = controller.role(&token, &settings, &[]).expect_success();
    assert_eq!(again.changed("web-1"), 0, "{}", again.output);
}
