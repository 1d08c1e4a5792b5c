//! The installer's one-line command on a booted host, with the hub as the mirror.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::TestHub;
use crate::disk::{Disk, Entry};
use crate::lan::Lan;
use crate::machine::Machine;
use crate::watch::Watch;

/// The command that an operator or cloud-init runs.
pub(crate) const ONE_LINER: &str =
    "curl --proto '=https' --tlsv1.2 -fsSL https://192.0.2.1:8443/install.sh | sh";

/// The place of the program, by `install`.
pub(crate) const PROGRAM: &str = "usr/local/bin/monsys-agent";

/// Adds the hub's CA to the system's store, as companies do.
pub(crate) fn trust(hub: &TestHub, disk: &Disk) {
    trust_ca(&hub.ca_file().unwrap(), disk);
}

/// Adds a CA to the system's store.
pub(crate) fn trust_ca(ca_file: &Path, disk: &Disk) {
    let ca = fs::read_to_string(ca_file).unwrap();
    disk.write("usr/local/share/ca-certificates/hub.crt", &ca);
    let status = std::process::Command::new("chroot")
        .arg(disk.root())
        .args(["update-ca-certificates"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

/// Checks that the service is running, that the hub gets heartbeats, and that root owns the host's files.
#[track_caller]
pub(crate) fn expect_in_service(hub: &TestHub, host: &Machine<'_>) {
    assert_eq!(
        host.run_ok("systemctl is-active monsys-agent").trim(),
        "active"
    );
    crate::privilege::expect_owned(host.disk);
    let name = host.disk.name.clone();
    crate::eventually("a heartbeat", || {
        let agents = hub.agents();
        let agent = agents
            .iter()
            .find(|agent| agent["facts"]["hostname"] == name.as_str());
        agent.is_some_and(|agent| !agent["last_heartbeat"].is_null())
    });
}

/// Checks that no file, log or argument of the host contains the token. Returns how many files were read.
#[track_caller]
pub(crate) fn expect_no_trace(host: &Machine<'_>, token: &str) -> usize {
    let (found, read) = host.files_with(token);
    assert!(found.is_empty(), "the token is in {found:?}");
    assert!(
        !host.journal().contains(token),
        "the token is in the journal"
    );
    assert!(read > 1000, "only {read} files were read");
    read
}

/// Puts another program into service in the place of the installed one, as a stand-in for the version before.
/// Returns the installed program.
pub(crate) fn put_older_program(host: &Machine<'_>) -> Vec<u8> {
    let program = host.disk.path(PROGRAM);
    let new = fs::read(&program).unwrap();
    let aside = program.with_file_name(".old");
    fs::write(&aside, [new.as_slice(), b"the version before"].concat()).unwrap();
    fs::set_permissions(&aside, fs::metadata(&program).unwrap().permissions()).unwrap();
    fs::rename(&aside, &program).unwrap();
    host.run_ok("systemctl restart monsys-agent");
    new
}

/// Returns the differences between two states of a disk, except for files that every running system writes.
pub(crate) fn differences(
    before: &BTreeMap<PathBuf, Entry>,
    after: &BTreeMap<PathBuf, Entry>,
) -> Vec<PathBuf> {
    const OF_THE_SYSTEM: [&str; 9] = [
        // Backups of the tools for users.
        "etc/group-",
        "etc/gshadow-",
        "etc/passwd-",
        "etc/shadow-",
        "run",
        "tmp",
        "var/lib/systemd",
        "var/log",
        "var/tmp",
    ];
    let paths = before.keys().chain(after.keys());
    let mut differing: Vec<PathBuf> = paths
        .filter(|path| before.get(*path) != after.get(*path))
        .filter(|path| !OF_THE_SYSTEM.iter().any(|of| path.starts_with(of)))
        .cloned()
        .collect();
    differing.dedup();
    differing
}

#[test]
fn one_command_installs_and_enrols_a_bare_host() {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = hub.token();
    let disk = Disk::debian("bookworm", "web-1");
    trust(&hub, &disk);
    let host = lan.boot(&disk);
    let fresh = disk.entries();

    let watch = Watch::start();
    let ran = host.run_with(
        &[("MONSYS_TOKEN", &token), ("MONSYS_TAGS", "shard-1")],
        ONE_LINER,
    );
    let ran = ran.expect(0);
    expect_in_service(&hub, &host);
    hub.expect_one_slot();
    let agent = &hub.agents()[0];
    assert_eq!(
        agent["tags"],
        serde_json::json!(["prod", "eu-west", "web", "shard-1"])
    );
    watch.end().expect_no_secret(&token, "monsys-agent run");
    let transcript = ran.stderr + &ran.stdout;
    assert!(!transcript.contains(&token));
    println!("# {ONE_LINER}\n{transcript}");
    expect_no_trace(&host, &token);
    let user = host.run_ok("ps -o user= -C monsys-agent");
    assert_eq!(user.trim(), "monsys");

    // The same command again changes nothing, spends no use, and does not restart the service.
    let installed = disk.entries();
    let pid = host.run_ok("systemctl show --value --property=MainPID monsys-agent");
    host.run_with(
        &[("MONSYS_TOKEN", &token), ("MONSYS_TAGS", "shard-1")],
        ONE_LINER,
    )
    .expect(0);
    let mut touched = differences(&installed, &disk.entries());
    // The lock holds the id of the process that took it last.
    touched.retain(|path| !path.ends_with("var/lib/monsys/lock"));
    assert_eq!(touched, Vec::<PathBuf>::new());
    let still = host.run_ok("systemctl show --value --property=MainPID monsys-agent");
    assert_eq!(pid, still);
    hub.expect_one_slot();

    // The service starts again at boot.
    let host = host.reboot();
    expect_in_service(&hub, &host);
    hub.expect_one_slot();

    // The uninstallation restores every file.
    host.run_ok("monsys-agent uninstall --purge");
    assert_eq!(differences(&fresh, &disk.entries()), Vec::<PathBuf>::new());
    assert_ne!(host.run("systemctl cat monsys-agent").code, 0);
}

#[test]
fn an_upgrade_preserves_the_identity_and_the_service() {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = hub.token();
    let disk = Disk::debian("bookworm", "web-1");
    trust(&hub, &disk);
    let host = lan.boot(&disk);
    host.run_with(&[("MONSYS_TOKEN", &token)], ONE_LINER)
        .expect(0);
    expect_in_service(&hub, &host);
    let new = put_older_program(&host);
    let credential = disk.read("etc/monsys/agent.toml");

    host.run_with(&[("MONSYS_TOKEN", &token)], ONE_LINER)
        .expect(0);
    assert!(fs::read(disk.path(PROGRAM)).unwrap() == new);
    let pid = host.run_ok("systemctl show --value --property=MainPID monsys-agent");
    let running = fs::read(host.path(&format!("proc/{}/exe", pid.trim()))).unwrap();
    assert!(running == new, "the old binary is still in service");
    expect_in_service(&hub, &host);
    assert_eq!(disk.read("etc/monsys/agent.toml"), credential);
    hub.expect_one_slot();
    assert_eq!(
        host.run_ok("systemctl show --value --property=NRestarts monsys-agent")
            .trim(),
        "0",
        "it failed on the way"
    );
}

#[test]
fn a_rejected_enrolment_exits_with_its_code_and_changes_nothing() {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = format!("{}x", hub.token());
    let disk = Disk::debian("bookworm", "web-1");
    trust(&hub, &disk);
    let host = lan.boot(&disk);
    let fresh = disk.entries();
    let ran = host
        .run_with(&[("MONSYS_TOKEN", &token)], ONE_LINER)
        .expect(77);
    assert!(
        ran.stderr.contains("the hub rejected the token"),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains(&token));
    let left = differences(&fresh, &disk.entries());
    // The key stays, since the hub may know the host by it: the next enrolment is the same agent.
    let is_identity = |path: &PathBuf| path.starts_with("var/lib/monsys");
    assert!(left.iter().all(is_identity), "{left:?}");
    expect_no_trace(&host, &token);
    assert_eq!(hub.agents().len(), 0);
}
