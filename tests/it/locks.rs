//! One command at a time changes a host, and only root can block it.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, thread};

use serde_json::json;

use crate::common::{Prepared, Run, TestHost, TestHub, needs_root};

const FLOCK: &str = "/usr/bin/flock";
/// A user and group without relation to the agent.
const NOBODY: u32 = 65534;
/// The user and group of the service.
const SERVICE: u32 = 990;

/// Makes a host with the service's user, whose systemd does not run.
fn host(hub: &TestHub) -> TestHost {
    let host = TestHost::new();
    host.write_file("usr/lib/systemd/systemd", "");
    host.write_file("etc/systemd/system/other.service", "");
    host.write_file("usr/local/bin/other", "");
    host.write_file(
        "etc/passwd",
        &format!("monsys:x:{SERVICE}:{SERVICE}::/:/bin/false\n"),
    );
    host.write_file("etc/group", &format!("monsys:x:{SERVICE}:\n"));
    host.install_ca(hub);
    host
}

/// Returns a command that changes the host, with every setting that it may need.
fn command(host: &TestHost, hub: &TestHub, token: &str, arguments: &[&str]) -> Prepared {
    let ca_file = host.path("etc/ssl/hub-ca.pem");
    host.agent(arguments)
        .env("MONSYS_HUB_URL", &hub.url())
        .env("MONSYS_CA_FILE", ca_file.to_str().unwrap())
        .env("MONSYS_TOKEN", token)
}

/// A lock on `path` by another user. Dropping it releases the lock.
struct ForeignLock(Child);

impl ForeignLock {
    /// Takes the lock; returns `None` if the user cannot open `path`.
    fn by(user: u32, path: &Path) -> Option<Self> {
        let mut child = Command::new(FLOCK)
            .args(["--nonblock", "--exclusive"])
            .arg(path)
            .args(["/bin/sh", "-c", "echo held; read forever"])
            .uid(user)
            .gid(user)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let locks = Self(child);
        (line == "held\n").then_some(locks)
    }
}

impl Drop for ForeignLock {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

/// Collects the folder and every path below it.
fn all_below(folder: &Path, found: &mut Vec<PathBuf>) {
    found.push(folder.to_owned());
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            all_below(&path, found);
        } else if path.is_file() {
            found.push(path);
        }
    }
}

#[test]
#[ignore = "needs root: takes locks as another user"]
fn locks_of_other_users_block_no_root_command() {
    needs_root();
    let hub = TestHub::new();
    let token = hub.token();
    for user in [NOBODY, SERVICE] {
        let host = host(&hub);
        let mut locks = Vec::new();
        let run = |locks: &mut Vec<ForeignLock>, arguments: &[&str], token: &str| {
            let mut paths = vec![PathBuf::from("/")];
            all_below(&host.path(""), &mut paths);
            locks.extend(paths.iter().filter_map(|path| ForeignLock::by(user, path)));
            command(&host, &hub, token, arguments).run().expect(0)
        };
        let wait = ["--wait", "3s"];
        run(&mut locks, &[&["install"][..], &wait].concat(), &token);
        assert!(locks.len() > 10, "{} locks", locks.len());
        run(
            &mut locks,
            &[&["install", "--tag", "x"][..], &wait].concat(),
            &token,
        );
        run(
            &mut locks,
            &[&["enrol", "--tag", "y"][..], &wait].concat(),
            &token,
        );
        run(
            &mut locks,
            &[&["enrol", "--force"][..], &wait].concat(),
            &token,
        );
        let id = host.key("agent_id").unwrap();
        let fresh = hub.post(&format!("agents/{id}/rotate-token"), json!({}));
        let fresh = fresh["token"].as_str().unwrap();
        run(&mut locks, &[&["rotate-token"][..], &wait].concat(), fresh);
        run(&mut locks, &["uninstall", "--purge"], &token);
        assert!(!host.path("var/lib/monsys").exists());
    }
}

#[test]
#[ignore = "needs root: the agent changes the mode of a lock only as root"]
fn a_lock_that_other_users_could_open_gets_mode_600() {
    needs_root();
    let hub = TestHub::new();
    let host = host(&hub);
    let token = hub.token();
    command(&host, &hub, &token, &["install"]).run().expect(0);
    for name in ["lock", "install.lock"] {
        let path = host.path("var/lib/monsys").join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }
    command(&host, &hub, &token, &["install", "--tag", "x", "--force"])
        .run()
        .expect(0);
    for name in ["lock", "install.lock"] {
        assert_eq!(host.mode(&format!("var/lib/monsys/{name}")), 0o600);
    }
}

/// Commands that change a host.
const COMMANDS: [&[&str]; 7] = [
    &["enrol", "--force"],
    &["install", "--force"],
    &["uninstall", "--purge"],
    &["rotate-token"],
    &["rotate-key"],
    &["unenrol"],
    &["prepare"],
];

/// Exit codes of a command that ran second: the token or the host has changed by then.
const FINE: [i32; 6] = [0, 64, 65, 74, 77, 78];

#[test]
fn two_concurrent_commands_leave_a_consistent_host() {
    let pairs: Vec<(&[&str], &[&str])> = COMMANDS
        .iter()
        .flat_map(|one| COMMANDS.iter().map(|other| (*one, *other)))
        .collect();
    let (next, waited) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let hub = TestHub::new();
                while let Some((one, other)) = pairs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    waited.fetch_add(usize::from(at_once(&hub, one, other)), Ordering::Relaxed);
                }
            });
        }
    });
    let waited = waited.into_inner();
    assert!(waited * 2 > pairs.len(), "{waited} of {}", pairs.len());
}

/// Runs both commands at once on an enrolled host. Returns whether one waited for the other.
fn at_once(hub: &TestHub, one: &[&str], other: &[&str]) -> bool {
    let host = host(hub);
    let token = hub.token();
    command(&host, hub, &token, &["install"]).run().expect(0);
    let id = host.key("agent_id").unwrap();
    let path = format!("agents/{id}/rotate-token");
    let takes = |name: &str| [one[0], other[0]].contains(&name);
    let is_rotated = takes("rotate-token");
    let fresh = is_rotated.then(|| {
        hub.post(&path, json!({}))["token"]
            .as_str()
            .unwrap()
            .to_owned()
    });
    if takes("rotate-key") {
        hub.post(&format!("agents/{id}/rotate-signing-key"), json!({}));
    }
    for route in ["enrol", "register", "delete"] {
        hub.fault(json!({"route": route, "delay_ms": 300, "times": 1}));
    }
    let start = |arguments: &[&str]| {
        let token = match &fresh {
            Some(fresh) if arguments[0] == "rotate-token" => fresh,
            _ => &token,
        };
        command(&host, hub, token, arguments).start()
    };
    let (first, second) = (start(one), start(other));
    let runs = [first, second].map(Run::of);
    let what = format!("{one:?} and {other:?}: {runs:#?}");
    assert!(runs.iter().all(|run| FINE.contains(&run.code)), "{what}");

    let status = host.agent(&["status", "--output", "json"]).run();
    let is_enrolled = status.code != 78 && status.json()["enrolled"] == true;
    if is_enrolled {
        // With the token, if the second command has interrupted the first.
        let proof = command(&host, hub, &token, &["enrol", "--tag", "proof"]).run();
        // The operator has rotated the token, and the other command ran before the host got it.
        let has_fresh = fresh == host.key("agent_token");
        let is_dead = is_rotated && !has_fresh && proof.code == 77;
        assert!(proof.code == 0 || is_dead, "{what}\n{proof:#?}");
    } else {
        let toml = fs::read_to_string(host.path("etc/monsys/agent.toml")).unwrap_or_default();
        assert!(!toml.contains("agent_token"), "{what}");
        assert!(
            !host.path("var/lib/monsys/agent-signing.key").exists(),
            "{what}"
        );
    }
    for folder in [
        "etc/monsys",
        "var/lib/monsys",
        "usr/local/bin",
        "etc/systemd/system",
    ] {
        let names = host.names(folder);
        assert!(
            !names.iter().any(|name| name.starts_with(".monsys-")),
            "{names:?}: {what}"
        );
    }
    runs.iter().any(|run| run.stderr.contains("is at work"))
}
