//! The controller: Ansible with an operator's home, ssh key and inventory.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::namespace::tool;
use crate::machine::Machine;
use crate::watch::{Seen, Watch};

use super::leaks::{Found, Leaks, contains_secret};

/// The project's collection.
const COLLECTION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/ansible");
/// The variable from which the plays take the token.
pub(crate) const TOKEN: &str = "TEST_ENROLMENT_TOKEN";

/// A controller with hosts in its inventory. It runs on the hub's machine.
pub(crate) struct Controller {
    home: TempDir,
    /// Hosts by name, each with its variables.
    hosts: RefCell<BTreeMap<String, Value>>,
    groups: RefCell<BTreeMap<String, Vec<String>>>,
    /// Folders for Ansible's modules on the hosts.
    folders: RefCell<Vec<PathBuf>>,
    /// Strings other than the token that must be in none of these folders.
    pub(crate) secrets: RefCell<Vec<String>>,
}

/// The result of a play.
pub(crate) struct Played {
    pub(crate) success: bool,
    /// Output of the play.
    pub(crate) output: String,
    /// Arguments of the processes meanwhile.
    pub(crate) seen: Seen,
    /// Content of Ansible's folders meanwhile, on controller and hosts.
    found: Found,
}

impl Controller {
    pub(crate) fn new() -> Self {
        let controller = Self {
            home: tempfile::tempdir().unwrap(),
            hosts: RefCell::default(),
            groups: RefCell::default(),
            folders: RefCell::default(),
            secrets: RefCell::default(),
        };
        let key = controller.path("key");
        let key = key.to_str().unwrap();
        tool(
            "ssh-keygen",
            &["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key],
        );
        // As a user who has cloned the project does.
        let installed = controller
            .command("ansible-galaxy")
            .args(["collection", "install", "--offline", COLLECTION])
            .output()
            .unwrap();
        assert!(installed.status.success(), "{installed:?}");
        controller
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.home.path().join(path)
    }

    /// Gives the controller access to the host: as `ops`, who may use sudo, and as root.
    pub(crate) fn adopt(&self, host: &Machine<'_>, groups: &[&str]) {
        let name = &host.disk.name;
        let key = fs::read_to_string(self.path("key.pub")).unwrap();
        host.run_ok("useradd --create-home --shell /bin/sh ops");
        host.run_ok("echo 'ops ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/ops");
        for home in ["root", "home/ops"] {
            host.run_ok(&format!("mkdir -p -m 700 /{home}/.ssh"));
            host.disk
                .write(&format!("{home}/.ssh/authorized_keys"), &key);
        }
        host.run_ok("chown -R ops: /home/ops/.ssh");
        host.run_ok("ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key");
        // sshd has failed at boot without a key, up to systemd's start limit.
        host.run_ok("systemctl reset-failed ssh; systemctl restart ssh");
        let address = host.run_ok("hostname -I").trim().to_owned();
        let host_key = host.disk.read("etc/ssh/ssh_host_ed25519_key.pub");
        let mut known = fs::read_to_string(self.path("known_hosts")).unwrap_or_default();
        known.extend([&address, " ", &host_key]);
        fs::write(self.path("known_hosts"), known).unwrap();
        let variables = json!({
            "ansible_host": address,
            "ansible_user": "ops",
            "ansible_ssh_private_key_file": self.path("key"),
        });
        self.hosts.borrow_mut().insert(name.clone(), variables);
        for folder in ["root/.ansible", "home/ops/.ansible"] {
            self.folders.borrow_mut().push(host.path(folder));
        }
        for group in groups {
            let mut all = self.groups.borrow_mut();
            all.entry((*group).to_owned())
                .or_default()
                .push(name.clone());
        }
    }

    /// Sets a variable of a host in the inventory.
    pub(crate) fn set(&self, host: &str, variable: &str, value: Value) {
        self.hosts.borrow_mut().get_mut(host).unwrap()[variable] = value;
    }

    /// Writes the inventory as a file. JSON is YAML.
    pub(crate) fn inventory(&self) -> PathBuf {
        let members = |names: &Vec<String>| -> Value {
            let hosts: BTreeMap<&String, Value> =
                names.iter().map(|name| (name, json!({}))).collect();
            json!({ "hosts": hosts })
        };
        let groups: BTreeMap<String, Value> = self
            .groups
            .borrow()
            .iter()
            .map(|(name, names)| (name.clone(), members(names)))
            .collect();
        let all = json!({"all": {"hosts": *self.hosts.borrow(), "children": groups}});
        let path = self.path("inventory.yml");
        fs::write(&path, all.to_string()).unwrap();
        path
    }

    /// Returns a program of Ansible with an empty environment.
    pub(crate) fn command(&self, program: &str) -> Command {
        let bin = crate::prepared::ansible();
        let mut command = Command::new(bin.join(program));
        let path = format!("{}:/usr/bin:/bin", bin.display());
        let ssh = format!(
            "-o ControlMaster=auto -o ControlPersist=20s -o UserKnownHostsFile={}",
            self.path("known_hosts").display()
        );
        command
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.home.path())
            .env("LC_ALL", "C.UTF-8")
            .env("TMPDIR", self.folder("tmp"))
            .env("ANSIBLE_SSH_ARGS", ssh)
            .env("ANSIBLE_SSH_CONTROL_PATH_DIR", self.folder("cp"))
            .env("ANSIBLE_LOG_PATH", self.path("ansible.log"))
            .current_dir(self.home.path())
            .stdin(Stdio::null());
        command
    }

    fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Runs the role on all hosts with these variables, and with `token` in the operator's environment.
    pub(crate) fn role(&self, token: &str, variables: &Value, options: &[&str]) -> Played {
        let mut variables = variables.clone();
        variables["monsys_agent_token"] = json!(format!(
            "{{{{ lookup('ansible.builtin.env', '{TOKEN}') }}}}"
        ));
        let role = json!({"role": "gotrust.monsys.monsys_agent", "vars": variables});
        let play = json!([{
            "name": "Play the role",
            "hosts": "all",
            "become": true,
            "gather_facts": false,
            "roles": [role],
        }]);
        self.play(token, &play.to_string(), options)
    }

    /// Runs a play at full verbosity.
    pub(crate) fn play(&self, token: &str, play: &str, options: &[&str]) -> Played {
        let file = self.path("play.yml");
        fs::write(&file, play).unwrap();
        let mut command = self.command("ansible-playbook");
        command
            .args(["-vvv", "--diff", "--inventory"])
            .arg(self.inventory())
            .args(options)
            .arg(file);
        self.run(token, command)
    }

    pub(crate) fn run(&self, token: &str, mut command: Command) -> Played {
        let mut folders = self.folders.borrow().clone();
        folders.extend([self.folder("tmp"), self.folder(".ansible/tmp")]);
        let mut secrets = self.secrets.borrow().clone();
        secrets.extend((!token.is_empty()).then(|| token.to_owned()));
        let leaks = Leaks::start(secrets, folders);
        let watch = Watch::start();
        let output = command.env(TOKEN, token).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        Played {
            success: output.status.success(),
            output: text,
            seen: watch.end(),
            found: leaks.end(),
        }
    }

    /// Returns the files of the controller that contain `needle`.
    pub(crate) fn files_with(&self, needle: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        crate::disk::walk(self.home.path(), &mut |path, metadata| {
            let is_leak = |bytes: Vec<u8>| contains_secret(&bytes, needle);
            if metadata.is_file() && fs::read(path).is_ok_and(is_leak) {
                found.push(path.to_path_buf());
            }
        });
        found
    }

    /// Returns a folder where molecule finds the collection of the clone.
    pub(crate) fn clone_of_collection(&self) -> PathBuf {
        let folder = self.folder("clone/ansible_collections/gotrust");
        let clone = folder.join("monsys");
        if !clone.exists() {
            symlink(COLLECTION, &clone).unwrap();
        }
        clone
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // Persistent ssh connections.
        for socket in fs::read_dir(self.path("cp"))
            .into_iter()
            .flatten()
            .flatten()
        {
            end_connection(&socket.path());
        }
    }
}

fn end_connection(socket: &Path) {
    let mut path = std::ffi::OsString::from("ControlPath=");
    path.push(socket);
    let _ = Command::new("ssh")
        .args(["-O", "exit", "-o"])
        .arg(path)
        .arg("host")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

impl Played {
    /// Panics unless the play succeeded.
    #[track_caller]
    pub(crate) fn expect_success(self) -> Self {
        assert!(self.success, "{}", self.output);
        self
    }

    /// Panics unless the play failed and printed all of `parts`.
    #[track_caller]
    pub(crate) fn expect_failure(self, parts: &[&str]) -> Self {
        assert!(!self.success, "{}", self.output);
        for part in parts {
            assert!(
                self.output.contains(part),
                "no {part:?} in\n{}",
                self.output
            );
        }
        self
    }

    /// Returns how many tasks changed the host, by the recap.
    #[track_caller]
    pub(crate) fn changed(&self, host: &str) -> u32 {
        let recap =
            self.output.lines().rev().find(|line| {
                line.split_whitespace().next() == Some(host) && line.contains("changed=")
            });
        let count = recap.and_then(|line| {
            let mut words = line.split_whitespace();
            words.find_map(|word| word.strip_prefix("changed="))
        });
        let count = count.unwrap_or_else(|| panic!("no recap of {host} in\n{}", self.output));
        count.parse().unwrap()
    }

    /// Panics if the output, the arguments of a process or a temporary module of Ansible contained the secret,
    /// or if the arguments of `program` were not seen.
    #[track_caller]
    pub(crate) fn expect_no_secret(self, secret: &str, program: &str) -> Self {
        if let Some(line) = self.output.lines().find(|line| line.contains(secret)) {
            panic!("the secret is in the output: {line}");
        }
        self.seen.expect_no_secret(secret, program);
        assert_eq!(self.found.leaks, BTreeSet::new());
        assert!(!self.found.read.is_empty(), "no module was seen");
        self
    }
}
