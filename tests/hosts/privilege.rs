//! Attacks by the service's user on a booted host, and root's commands on such a host.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, Entry};
use crate::lan::Lan;
use crate::machine::Machine;
use crate::one_liner::{self, ONE_LINER, expect_in_service, trust};

/// Owners and modes on a host enrolled by any method (contract, section 5): the path, whether its group is the
/// service's, and the mode.
const OWNED: [(&str, bool, u32); 7] = [
    ("etc/monsys", false, 0o755),
    ("etc/monsys/agent.toml", true, 0o640),
    ("var/lib/monsys", true, 0o750),
    ("var/lib/monsys/agent-signing.key", true, 0o640),
    ("var/lib/monsys/agent-id", false, 0o644),
    ("var/lib/monsys/state.json", true, 0o640),
    ("var/lib/monsys/lock", false, 0o600),
];

/// Panics unless root owns the host's files and the service's group can read what it needs.
#[track_caller]
pub(crate) fn expect_owned(disk: &Disk) {
    let groups = disk.read("etc/group");
    let group = groups.lines().find_map(|line| line.strip_prefix("monsys:"));
    let group: u32 = group.unwrap().split(':').nth(1).unwrap().parse().unwrap();
    for (path, is_shared, mode) in OWNED {
        let there = std::fs::symlink_metadata(disk.path(path)).unwrap();
        let is = (there.uid(), there.gid(), there.mode() & 0o7777);
        let gid = if is_shared { group } else { 0 };
        assert_eq!(is, (0, gid, mode), "{path} of {}", disk.name);
    }
}

/// Plants files that may mislead root in every folder that the service's user can write, as that user.
#[track_caller]
pub(crate) fn plant(host: &Machine<'_>) {
    host.run_ok(
        "setpriv --reuid=monsys --regid=monsys --clear-groups sh -ec '
        cd /run/monsys
        rm -rf ./* ./.monsys-*
        ln -sf /etc/shadow heartbeat.json
        ln -sf /etc/shadow .monsys-heartbeat.json.tmp
        ln -sf /etc link
        mkfifo -m 666 pipe.json
        truncate -s 1T huge.json
        mkdir -p folder.json
        ! { ln /etc/passwd hard.json; } 2>/dev/null || test -e hard.json
        ! mknod device.json c 1 5 2>/dev/null
        for place in /etc/monsys /var/lib/monsys /run/monsys-step /usr/local/bin; do
          ! touch $place/planted 2>/dev/null
        done
        ! { echo x >>/etc/monsys/agent.toml; } 2>/dev/null
        ! { echo x >>/var/lib/monsys/agent-signing.key; } 2>/dev/null'",
    );
}

/// Returns the differences, except for the state, where the privileged step stores its result, and the lock,
/// which has the id of the last process.
fn differences(
    before: &BTreeMap<PathBuf, Entry>,
    after: &BTreeMap<PathBuf, Entry>,
) -> Vec<PathBuf> {
    let mut differing = one_liner::differences(before, after);
    let noted = ["var/lib/monsys/state.json", "var/lib/monsys/lock"].map(Path::new);
    differing.retain(|path| !noted.contains(&path.as_path()));
    differing
}

#[test]
fn files_planted_by_the_service_user_mislead_no_root_command() {
    let lan = Lan::new();
    let hub = lan.hub();
    let disk = Disk::debian("bookworm", "web-1");
    trust(&hub, &disk);
    let host = lan.boot(&disk);
    // Kernel defaults, without Debian's settings.
    host.run_ok("sysctl -q fs.protected_hardlinks=0 fs.protected_symlinks=0 || true");
    host.run_with(&[("MONSYS_TOKEN", &hub.token())], ONE_LINER)
        .expect(0);
    expect_in_service(&hub, &host);
    let before = disk.entries();
    for command in [
        "monsys-agent status",
        "monsys-agent doctor",
        "monsys-agent facts",
        "monsys-agent enrol",
        "monsys-agent prepare",
        "monsys-agent install --no-enrol",
        "systemctl restart monsys-agent",
        "systemctl reload-or-restart monsys-agent",
    ] {
        plant(&host);
        let ran = host.run(command);
        assert!([0, 75].contains(&ran.code), "{command}: {ran:?}");
        assert_eq!(
            differences(&before, &disk.entries()),
            Vec::<PathBuf>::new(),
            "{command}"
        );
    }
    expect_in_service(&hub, &host);
    plant(&host);
    host.run_ok("monsys-agent uninstall --purge");
    assert!(!disk.exists("var/lib/monsys/agent-signing.key"));
    let shadow = Path::new("etc/shadow-");
    let left = differences(&before, &disk.entries());
    let is_system = |path: &PathBuf| {
        ["passwd", "group", "shadow", "gshadow"]
            .iter()
            .any(|name| path.starts_with("etc") && path.to_string_lossy().contains(name))
    };
    let is_ours = |path: &PathBuf| path.to_string_lossy().contains("monsys");
    assert!(
        left.iter()
            .all(|path| is_system(path) || is_ours(path) || path == shadow),
        "{left:?}"
    );
    hub.expect_one_slot();
}

#[test]
fn files_of_an_older_release_are_migrated_when_the_service_restarts() {
    let lan = Lan::new();
    let hub = lan.hub();
    let disk = Disk::debian("bookworm", "web-1");
    trust(&hub, &disk);
    let host = lan.boot(&disk);
    host.run_with(&[("MONSYS_TOKEN", &hub.token())], ONE_LINER)
        .expect(0);
    expect_in_service(&hub, &host);
    // Files of an older release, with changes by its user.
    host.run_ok(
        "systemctl stop monsys-agent
        chown -R monsys:monsys /etc/monsys /var/lib/monsys
        chown root:root /var/lib/monsys/install.json
        chmod 700 /var/lib/monsys; chmod 600 /etc/monsys/agent.toml /var/lib/monsys/*
        setpriv --reuid=monsys --regid=monsys --clear-groups \
          sed -i '1i state_dir = \"/etc\"\\ntoken_command = \"touch /root/owned\"' /etc/monsys/agent.toml",
    );
    let before = disk.entries();
    // The hub is dropped as well, since that user could have changed it: no credential is sent to another hub.
    host.run("systemctl start monsys-agent");
    let code = "systemctl show --value --property=ExecMainStatus monsys-agent";
    assert_eq!(host.run_ok(code).trim(), "78");
    assert!(host.journal().contains("the hub that issued it"));
    let own = ["etc/monsys", "var/lib/monsys"];
    let mut touched = differences(&before, &disk.entries());
    touched.retain(|path| !own.iter().any(|own| path.starts_with(own)));
    assert_eq!(touched, Vec::<PathBuf>::new());
    host.run_ok("monsys-agent enrol --hub-url https://192.0.2.1:8443");
    host.run_ok("systemctl start monsys-agent");
    expect_in_service(&hub, &host);
    assert!(!disk.exists("root/owned"));
    hub.expect_one_slot();
}
