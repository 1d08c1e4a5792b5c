//! The collection, as Ansible's own programs see it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const COLLECTION: &str = "ansible";
/// The role, by its full name.
pub(crate) const ROLE: &str = "gotrust.monsys.monsys_agent";

/// Ansible with a home of its own, in which the collection is installed.
pub(crate) struct Ansible {
    bin: PathBuf,
    home: TempDir,
}

impl Ansible {
    /// Builds and installs the collection.
    #[track_caller]
    pub(crate) fn new() -> Self {
        let bin = std::env::var_os("MONSYS_TEST_ANSIBLE").unwrap_or_else(|| {
            panic!("MONSYS_TEST_ANSIBLE is not set: run this by `cargo xtask test ansible`")
        });
        let ansible = Self {
            bin: bin.into(),
            home: tempfile::tempdir().unwrap(),
        };
        let install = ["collection", "install", "--offline", COLLECTION];
        ansible.run("ansible-galaxy", &install, ".");
        ansible
    }

    fn command(&self, program: &str, arguments: &[&str], folder: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .args(arguments)
            .current_dir(root().join(folder))
            .env("PATH", format!("{}:{path}", self.bin.display()))
            .env("HOME", self.home.path())
            .env("LC_ALL", "C.UTF-8");
        command
    }

    /// Runs a program in a folder of the project; fails the test unless it exits with 0.
    #[track_caller]
    pub(crate) fn run(&self, program: &str, arguments: &[&str], folder: &str) -> String {
        let output = self.command(program, arguments, folder).output().unwrap();
        let (status, text) = (output.status, text(&output));
        assert!(
            status.success(),
            "{program} {arguments:?}: {status}\n{text}"
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// A file below its home.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Plays these tasks on this machine; returns whether the play failed, and its output at its loudest.
    pub(crate) fn play(&self, tasks: &[Value], vars: &Value) -> (bool, String) {
        let mut all = json!({
            "__monsys_agent_look": {"stdout_lines": [], "stderr_lines": ["is broken there"]},
            "__monsys_agent_needed": "it is needed",
            "__monsys_agent_hint": "do this",
        });
        all.as_object_mut()
            .unwrap()
            .extend(vars.as_object().unwrap().clone());
        let play = json!([{
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": false,
            "vars": all,
            "tasks": tasks,
        }]);
        let path = self.file("play.yml");
        fs::write(&path, play.to_string()).unwrap();
        let arguments = ["-vvvvv", "--inventory=localhost,", path.to_str().unwrap()];
        let mut command = self.command("ansible-playbook", &arguments, ".");
        let output = command.output().unwrap();
        (!output.status.success(), text(&output))
    }
}

/// The task that includes a file of the role's tasks, and leaves the role's variables to those after it.
pub(crate) fn include(file: &str) -> Value {
    json!({"ansible.builtin.include_role": {"name": ROLE, "tasks_from": file, "public": true}})
}

/// The root of the project.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr]
        .map(|stream| String::from_utf8_lossy(stream).into_owned())
        .concat()
}

#[test]
fn the_collection_has_no_lint() {
    let ansible = Ansible::new();
    let lint = ["--offline", "--profile=production", "--strict"];
    ansible.run("ansible-lint", &lint, COLLECTION);
    ansible.run("yamllint", &["--strict", "."], COLLECTION);
}

#[test]
fn every_playbook_has_a_valid_syntax() {
    let ansible = Ansible::new();
    for folder in ["playbooks", "extensions/molecule/default"] {
        let folder = Path::new(COLLECTION).join(folder);
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let name = entry.unwrap().file_name();
            if name != "molecule.yml" {
                let playbook = folder.join(name).display().to_string();
                let syntax = ["--syntax-check", "--inventory=localhost,", &playbook];
                ansible.run("ansible-playbook", &syntax, ".");
            }
        }
    }
}
