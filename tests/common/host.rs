//! A host: a folder that stands for `/`, and runs of the real binary on it.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::TestHub;

/// Returns the agent: the static binary that ships, where `cargo xtask test` names one, since its C library, its
/// resolver and its optimisations differ; otherwise the program that cargo built with the tests.
pub(crate) fn program() -> OsString {
    let shipped = std::env::var_os("MONSYS_TEST_AGENT");
    shipped.unwrap_or_else(|| env!("CARGO_BIN_EXE_monsys-agent").into())
}

/// Directories and files of an enrolled host, and their modes.
pub(crate) const MODES: [(&str, u32); 6] = [
    ("etc/monsys", 0o755),
    ("etc/monsys/agent.toml", 0o600),
    ("var/lib/monsys", 0o700),
    ("var/lib/monsys/agent-signing.key", 0o600),
    ("var/lib/monsys/agent-id", 0o644),
    ("var/lib/monsys/state.json", 0o600),
];

/// A host of one test.
pub(crate) struct TestHost {
    root: tempfile::TempDir,
}

/// A command of the agent, before it runs.
pub(crate) struct Prepared {
    command: Command,
    stdin: Option<Vec<u8>>,
    keep_stdin_open: bool,
}

/// The exit code and the output of a run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl TestHost {
    /// Makes a host named `web-3` that runs Debian.
    pub(crate) fn new() -> Self {
        let host = Self {
            root: tempfile::tempdir().unwrap(),
        };
        // Another user may have to open the folder: see `by_user`.
        fs::set_permissions(host.root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        host.write_file(
            "etc/os-release",
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n",
        );
        host.write_file("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
        host.write_file("host-hostname", "web-3\n");
        host
    }

    /// Copies this host's disk, as a snapshot of a virtual machine does.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self {
            root: tempfile::tempdir().unwrap(),
        };
        let from = format!("{}/.", self.root.path().display());
        let status = Command::new("cp")
            .args(["-a", &from])
            .arg(copy.root.path())
            .status()
            .unwrap();
        assert!(status.success());
        copy
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    pub(crate) fn write_file(&self, path: &str, text: &str) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn agent_toml(&self) -> String {
        fs::read_to_string(self.path("etc/monsys/agent.toml")).unwrap()
    }

    /// Returns the value of a key of agent.toml as text.
    pub(crate) fn key(&self, key: &str) -> Option<String> {
        let table: toml::Table = toml::from_str(&self.agent_toml()).unwrap();
        Some(match table.get(key)? {
            toml::Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    }

    pub(crate) fn mode(&self, path: &str) -> u32 {
        fs::metadata(self.path(path)).unwrap().mode() & 0o7777
    }

    /// Returns every file below `path` with its content.
    pub(crate) fn files(&self, path: &str) -> Vec<(PathBuf, Vec<u8>)> {
        fn walk(folder: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                let metadata = fs::symlink_metadata(&path).unwrap();
                if metadata.is_dir() {
                    walk(&path, found);
                } else {
                    found.push((path.clone(), fs::read(&path).unwrap_or_default()));
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.path(path), &mut found);
        found.sort();
        found
    }

    /// Returns the names of the files in a folder, sorted.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path(folder))
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Returns the agent on this host, with an empty environment.
    pub(crate) fn agent(&self, arguments: &[&str]) -> Prepared {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .arg("--root")
            .arg(self.root.path())
            .env_clear()
            // No test sends a request to a real metadata service, in any cloud.
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .current_dir(self.root.path());
        Prepared {
            command,
            stdin: None,
            keep_stdin_open: false,
        }
    }

    /// Returns `enrol` at `hub` with `token` in the environment.
    pub(crate) fn enrol(&self, hub: &TestHub, token: &str) -> Prepared {
        self.enrol_with(hub, token, &[])
    }

    /// Returns `enrol` with more arguments.
    pub(crate) fn enrol_with(&self, hub: &TestHub, token: &str, more: &[&str]) -> Prepared {
        let ca_file = self.install_ca(hub);
        let url = hub.url();
        let mut arguments = vec!["enrol", "--hub-url", &url];
        if let Some(ca_file) = &ca_file {
            arguments.extend(["--ca-file", ca_file.to_str().unwrap()]);
        }
        arguments.extend(more);
        self.agent(&arguments).env("MONSYS_TOKEN", token)
    }

    /// Writes the hub's CA to the host, unless it is there: a run of the agent may read it at this moment.
    pub(crate) fn install_ca(&self, hub: &TestHub) -> Option<PathBuf> {
        let text = fs::read_to_string(hub.ca_file()?).unwrap();
        let path = self.path("etc/ssl/hub-ca.pem");
        if fs::read_to_string(&path).is_ok_and(|there| there == text) {
            return Some(path);
        }
        Some(self.write_file("etc/ssl/hub-ca.pem", &text))
    }
}

/// Returns the keys of a JSON object, sorted.
#[track_caller]
pub(crate) fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    keys
}

impl Prepared {
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn stdin(mut self, bytes: &[u8]) -> Self {
        self.stdin = Some(bytes.to_vec());
        self
    }

    /// Leaves standard input open and writes nothing to it: see [`Run::of_silent`].
    pub(crate) fn open_stdin(mut self) -> Self {
        self.keep_stdin_open = true;
        self
    }

    /// Runs as another user of this machine. Needs root.
    pub(crate) fn by_user(mut self, uid: u32) -> Self {
        self.command.uid(uid).gid(uid);
        self
    }

    /// Runs it as an argument of `wrapper`, such as strace.
    pub(crate) fn under(self, wrapper: &mut Command) -> Self {
        wrapper
            .arg(self.command.get_program())
            .args(self.command.get_args());
        self.instead(wrapper)
    }

    /// Returns the command as a line for a shell. No argument has a space or a quote in these tests.
    pub(crate) fn line(&self) -> String {
        let words = [self.command.get_program()];
        let words = words.into_iter().chain(self.command.get_args());
        let words: Vec<&str> = words.map(|word| word.to_str().unwrap()).collect();
        words.join(" ")
    }

    /// Runs `wrapper` instead, with this command's folder and environment.
    pub(crate) fn instead(mut self, wrapper: &mut Command) -> Self {
        wrapper
            .current_dir(self.command.get_current_dir().unwrap())
            .env_clear()
            .envs(
                self.command
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            );
        std::mem::swap(&mut self.command, wrapper);
        self
    }

    pub(crate) fn start(mut self) -> Child {
        self.command
            .stdin(if self.stdin.is_some() || self.keep_stdin_open {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap();
        if let Some(bytes) = self.stdin {
            // An agent that exits before it needs a token does not read it.
            let _ = child.stdin.take().unwrap().write_all(&bytes);
        }
        child
    }

    pub(crate) fn run(self) -> Run {
        Run::of(self.start())
    }
}

impl Run {
    pub(crate) fn of(child: Child) -> Self {
        let output = child.wait_with_output().unwrap();
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Waits for a child whose standard input stays open until it exits.
    pub(crate) fn of_silent(mut child: Child) -> Self {
        let open = child.stdin.take();
        let run = Self::of(child);
        drop(open);
        run
    }

    /// Panics unless the run exited with `code`.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "\n--- stdout\n{}\n--- stderr\n{}",
            self.stdout, self.stderr
        );
        self
    }

    /// Panics unless standard error contains all of `parts`.
    #[track_caller]
    pub(crate) fn expect_stderr(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(
                self.stderr.contains(part),
                "no {part:?} in\n{}",
                self.stderr
            );
        }
        self
    }

    /// Parses standard output as one JSON object.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.stdout))
    }
}
