//! One command at a time changes a host, and nobody but root can hold it up.

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
/// A user, and its group, who is none of the agent's.
const NOBODY: u32 = 65534;
/// The service's user and group.
const SERVICE: u32 = 990;

/// A host whose systemd does not run, with the service's user.
fn host(hub: &TestHub) -> TestHost {
    let host = TestHost::new();
    host.lay("usr/lib/systemd/systemd", "");
    host.lay("etc/systemd/system/other.service", "");
    host.lay("usr/local/bin/other", "");
    host.lay(
        "etc/passwd",
        &format!("monsys:x:{SERVICE}:{SERVICE}::/:/bin/false\n"),
    );
    host.lay("etc/group", &format!("monsys:x:{SERVICE}:\n"));
    host.install_ca(hub);
    host
}

/// A command that changes the host, with all that it may need.
fn command(host: &TestHost, hub: &TestHub, token: &str, arguments: &[&str]) -> Prepared {
    let ca_file = host.path("etc/ssl/hub-ca.pem");
    host.agent(arguments)
        .env("MONSYS_HUB_URL", &hub.url())
        .env("MONSYS_CA_FILE", ca_file.to_str().unwrap())
        .env("MONSYS_TOKEN", token)
}

/// Holds the lock on `path` as another user until it is dropped.
struct Held(Child);

impl Held {
    /// `None` when that user cannot open it.
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
        let held = Self(child);
        (line == "held\n").then_some(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

/// The folder and all that is in it.
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
        let mut held = Vec::new();
        let run = |held: &mut Vec<Held>, arguments: &[&str], token: &str| {
            let mut paths = vec![PathBuf::from("/")];
            all_below(&host.path(""), &mut paths);
            held.extend(paths.iter().filter_map(|path| Held::by(user, path)));
            command(&host, &hub, token, arguments).run().expect(0)
        };
        let wait = ["--wait", "3s"];
        run(&mut held, &[&["install"][..], &wait].concat(), &token);
        assert!(held.len() > 10, "{} locks", held.len());
        run(
            &mut held,
            &[&["install", "--tag", "x"][..], &wait].concat(),
            &token,
        );
        run(
            &mut held,
            &[&["enrol", "--tag", "y"][..], &wait].concat(),
            &token,
        );
        run(
            &mut held,
            &[&["enrol", "--force"][..], &wait].concat(),
            &token,
        );
        let id = host.key("agent_id").unwrap();
        let fresh = hub.post(&format!("agents/{id}/rotate-token"), json!({}));
        let fresh = fresh["token"].as_str().unwrap();
        run(&mut held, &[&["rotate-token"][..], &wait].concat(), fresh);
        run(&mut held, &["uninstall", "--purge"], &token);
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

/// What one of two may end with when the other one was first: the token or the host is another one by then.
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

/// Runs both at once on an enrolled host. Returns whether one of them waited for the other.
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
        // By the token where the last one was interrupted by the other.
        let proof = command(&host, hub, &token, &["enrol", "--tag", "proof"]).run();
        // The operator has rotated it, and the host was not told before the other command came.
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
