//! Terraform over a copy of the module, without network and without a provider.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Map, Value, json};

/// The folder whose configuration calls the module once for each case.
const CASES: &str = "cases";

/// A copy of `terraform/` for one test.
pub(crate) struct Terraform(tempfile::TempDir);

/// The module's outputs for one case.
pub(crate) struct Rendered {
    pub(crate) cloud_init: String,
    pub(crate) cloud_init_base64: String,
    pub(crate) cloud_init_gzip_base64: String,
    /// Empty where nothing would render its template.
    pub(crate) install_script: String,
}

impl Terraform {
    /// Copies the module, but for the files of the examples that name a provider, which would have to
    /// be downloaded.
    pub(crate) fn new() -> Self {
        Self::of(&source(""))
    }

    /// Copies the module from that folder.
    pub(crate) fn of(folder: &Path) -> Self {
        let terraform = Self(tempfile::tempdir().unwrap());
        copy(folder, terraform.0.path());
        terraform
    }

    /// The copy's own folder, or one below it.
    pub(crate) fn folder(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    /// Makes a folder below the copy, with these files in it and no other.
    pub(crate) fn lay(&self, below: &str, files: &[(&str, String)]) {
        let folder = self.folder(below);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
    }

    /// Terraform in that folder, without any settings from outside.
    pub(crate) fn command(&self, below: &str, arguments: &[&str]) -> Command {
        let empty = self.folder("empty.tfrc");
        fs::write(&empty, "").unwrap();
        let mut terraform = Command::new("terraform");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TF_") {
                terraform.env_remove(name);
            }
        }
        terraform
            .args(arguments)
            .current_dir(self.folder(below))
            .env("CHECKPOINT_DISABLE", "1")
            .env("TF_CLI_CONFIG_FILE", empty)
            .env("TF_IN_AUTOMATION", "1");
        terraform
    }

    /// Runs it to its end; returns its standard output.
    #[track_caller]
    pub(crate) fn run(&self, below: &str, arguments: &[&str]) -> String {
        succeeded(&self.command(below, arguments).output().unwrap())
    }

    /// Applies the configuration of a folder.
    #[track_caller]
    pub(crate) fn apply(&self, below: &str) {
        self.run(below, &["init", "-input=false"]);
        let apply = [
            "apply",
            "-auto-approve",
            "-input=false",
            "-compact-warnings",
        ];
        self.run(below, &apply);
    }

    /// Calls the module with the inputs of each case.
    #[track_caller]
    pub(crate) fn render(&self, cases: &Map<String, Value>) -> Map<String, Value> {
        let inputs: String = inputs()
            .iter()
            .flat_map(|input| ["  ", input, " = try(each.value.", input, ", null)\n"])
            .collect();
        let main = format!(
            "variable \"cases\" {{\n  type = any\n}}\n\
             module \"case\" {{\n  source = \"./..\"\n  for_each = var.cases\n{inputs}}}\n\
             output \"rendered\" {{\n  value = module.case\n  sensitive = true\n}}\n"
        );
        // In a file of variables, Terraform takes no part of a value for a template.
        let values = json!({ "cases": cases }).to_string();
        self.lay(
            CASES,
            &[("main.tf", main), ("terraform.tfvars.json", values)],
        );
        self.apply(CASES);
        serde_json::from_str(&self.run(CASES, &["output", "-json", "rendered"])).unwrap()
    }

    /// Calls the module with these inputs.
    #[track_caller]
    pub(crate) fn render_one(&self, inputs: Value) -> Rendered {
        let cases = Map::from_iter([("one".to_owned(), inputs)]);
        Rendered::of(&self.render(&cases), "one")
    }
}

impl Rendered {
    /// Takes one case out of the result of [`Terraform::render`].
    #[track_caller]
    pub(crate) fn of(rendered: &Map<String, Value>, case: &str) -> Self {
        let text = |output: &str| rendered[case][output].as_str().unwrap().to_owned();
        let script = rendered[case]["install_script"].as_str();
        Self {
            cloud_init: text("cloud_init"),
            cloud_init_base64: text("cloud_init_base64"),
            cloud_init_gzip_base64: text("cloud_init_gzip_base64"),
            install_script: script.unwrap_or_default().to_owned(),
        }
    }
}

/// A path below the module's own folder.
pub(crate) fn source(below: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("terraform").join(below)
}

/// All of the module's code.
pub(crate) fn code() -> String {
    let mut code = String::new();
    for entry in fs::read_dir(source("")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "tf") {
            code += &fs::read_to_string(path).unwrap();
        }
    }
    code
}

/// Names of the module's inputs.
fn inputs() -> Vec<String> {
    let code = code();
    let names = code.lines().filter_map(|line| {
        let (name, _) = line.strip_prefix("variable \"")?.split_once('"')?;
        Some(name.to_owned())
    });
    names.collect()
}

/// Fails the test unless a program exited with 0; returns its standard output.
#[track_caller]
pub(crate) fn succeeded(output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}\n{stdout}{stderr}",
        output.status
    );
    stdout.into_owned()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if name.to_string_lossy().starts_with(".terraform") {
            continue;
        }
        if path.is_dir() {
            copy(&path, &to.join(name));
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        if !String::from_utf8_lossy(&bytes).contains("required_providers") {
            fs::write(to.join(name), bytes).unwrap();
        }
    }
}
