//! The program `mock-hub` as a process of its own, which can be killed.

use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Operator, until};

/// The files of a hub that are lost with its database.
const DATABASE: [&str; 3] = ["hub.db", "hub.db-wal", "hub.db-shm"];
/// The files that make another hub this one: its CA, the receipt key, and the admin token of this test.
const KEPT: [&str; 3] = ["tls", "receipt.pem", "admin-token"];

/// A hub with all its files in one folder, at one address. Dropping it kills it.
pub(crate) struct HubProcess {
    folder: TempDir,
    address: SocketAddr,
    heartbeat_interval: u32,
    running: Option<Running>,
}

struct Running {
    child: Child,
    operator: Operator,
    /// Kept open, so that the hub never writes to a closed pipe.
    _stdout: BufReader<ChildStdout>,
}

impl HubProcess {
    /// Starts a hub at `address` that asks for a heartbeat every `heartbeat_interval` seconds.
    pub(crate) fn at(address: SocketAddr, heartbeat_interval: u32) -> Self {
        let mut hub = Self {
            folder: tempfile::tempdir().unwrap(),
            address,
            heartbeat_interval,
            running: None,
        };
        hub.start();
        hub
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the hub's CA.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.file("tls/ca.pem")
    }

    /// Returns the command with its arguments, as an argument of `wrapper` if there is one.
    fn command(&self, wrapper: &[&str]) -> Command {
        let program = program();
        let mut words = wrapper.iter().map(Path::new).chain([program.as_path()]);
        let mut command = Command::new(words.next().unwrap());
        let mut log = OpenOptions::new();
        let log = log.create(true).append(true);
        let log = log.open(self.file("hub.log")).unwrap();
        command
            .args(words)
            .args(["--listen", &self.address.to_string()])
            .arg("--tls-dir")
            .arg(self.file("tls"))
            .arg("--database")
            .arg(self.file("hub.db"))
            .arg("--admin-token-file")
            .arg(self.file("admin-token"))
            .arg("--receipt-key")
            .arg(self.file("receipt.pem"))
            .arg("--revocations")
            .arg(self.file("revocations"))
            .args(["--heartbeat-interval", &self.heartbeat_interval.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        command
    }

    /// Starts the hub, and waits until it answers.
    pub(crate) fn start(&mut self) {
        let mut child = self.command(&[]).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let ready: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("no hub\n{}", self.log()));
        let text = |key: &str| ready[key].as_str().unwrap().to_owned();
        let (url, admin_token) = (text("url"), text("admin_token"));
        let runtime = Operator::runtime();
        self.running = Some(Running {
            operator: Operator::new(runtime, &url, Some(&self.ca_file()), &admin_token),
            child,
            _stdout: stdout,
        });
    }

    /// Kills the hub (SIGKILL).
    pub(crate) fn kill(&mut self) {
        let mut running = self.running.take().unwrap();
        running.child.kill().unwrap();
        running.child.wait().unwrap();
    }

    /// Starts the hub under strace, which kills it when it makes a change durable for the `number`th time, and waits
    /// until it is dead.
    pub(crate) fn run_to_commit(&self, number: usize) {
        let inject = format!("inject=fdatasync,fsync:signal=KILL:when={number}");
        let wrapper = ["strace", "-f", "-o", "/dev/null", "-e", &inject];
        let mut child = self.command(&wrapper).spawn().unwrap();
        until("the death of the hub", || {
            child.try_wait().unwrap().is_some()
        });
    }

    /// Removes the database of the hub, which is not running.
    pub(crate) fn lose_database(&self) {
        assert!(self.running.is_none());
        for name in DATABASE {
            let _ = fs::remove_file(self.file(name));
        }
    }

    /// Copies the database of the hub, which is not running, to `folder`.
    pub(crate) fn save_database(&self, folder: &Path) {
        assert!(self.running.is_none());
        for name in DATABASE {
            let _ = fs::copy(self.file(name), folder.join(name));
        }
    }

    /// Replaces the database of the hub, which is not running, by the copy in `folder`.
    pub(crate) fn restore_database(&self, folder: &Path) {
        self.lose_database();
        for name in DATABASE {
            let _ = fs::copy(folder.join(name), self.file(name));
        }
    }

    /// Kills the hub, and starts another one at its address: with its CA and its receipt key, and nothing else.
    pub(crate) fn replace(&mut self) {
        self.kill();
        let folder = tempfile::tempdir().unwrap();
        for name in KEPT {
            let copied = Command::new("cp")
                .arg("-a")
                .args([self.file(name), folder.path().join(name)])
                .status();
            assert!(copied.unwrap().success());
        }
        self.folder = folder;
        self.start();
    }

    /// Opens the readmission.
    #[track_caller]
    pub(crate) fn open_readmission(&self) -> Value {
        let door = json!({"open_for_secs": 3600, "max_agents": 100_000});
        self.post("readmission", door)
    }

    /// Ends the readmission.
    #[track_caller]
    pub(crate) fn close_readmission(&self) {
        self.call(reqwest::Method::DELETE, "readmission", None);
    }

    /// Returns the log of all runs.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.file("hub.log")).unwrap()
    }
}

impl Deref for HubProcess {
    type Target = Operator;

    fn deref(&self) -> &Operator {
        &self.running.as_ref().unwrap().operator
    }
}

impl Drop for HubProcess {
    fn drop(&mut self) {
        if self.running.is_some() {
            self.kill();
        }
    }
}

/// Returns the program that the suite has built.
fn program() -> PathBuf {
    std::env::var_os("MONSYS_TEST_HUB")
        .expect("MONSYS_TEST_HUB is not set: run this by `cargo xtask test fleet` or `hosts`")
        .into()
}
