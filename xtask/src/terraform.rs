//! Terraform over copies of the module under target/, without network and without a provider.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tokio::process::Command;

use crate::error::{Context, Result, Stop};
use crate::terraform_docs::Module;
use crate::{process, tools};

/// The oldest that has all that the tests say.
const OLDEST: (u64, u64) = (1, 8);
/// What a test of the module is given: all its inputs, case by case.
const CASES: &str = "cases";

/// A copy of `terraform/` in which Terraform may leave what it likes.
pub(crate) struct Terraform {
    module: PathBuf,
}

/// What the module made for one case.
pub(crate) struct Rendered {
    pub(crate) cloud_init: String,
    pub(crate) cloud_init_base64: String,
    pub(crate) cloud_init_gzip_base64: String,
    /// `None` where nothing would render its template.
    pub(crate) install_script: Option<String>,
}

impl Terraform {
    /// Copies the module to target/terraform/`name`. What needs a provider, which would have to
    /// be downloaded, is left out: the files of the examples that name one.
    pub(crate) async fn new(name: &str) -> Result<Self> {
        let module = tools::target().join("terraform").join(name);
        if module.exists() {
            fs::remove_dir_all(&module)
                .context(|| format!("could not remove {}", module.display()))?;
        }
        copy(&tools::root().join("terraform"), &module)?;
        let terraform = Self { module };
        terraform.is_there().await?;
        Ok(terraform)
    }

    /// The copy's own folder, or one below it.
    pub(crate) fn folder(&self, below: &str) -> PathBuf {
        self.module.join(below)
    }

    /// Terraform in that folder, which hears of nothing outside.
    pub(crate) fn command(&self, below: &str, arguments: &[&str]) -> Result<Command> {
        let empty = self.module.join("empty.tfrc");
        fs::write(&empty, "").context(|| format!("could not write {}", empty.display()))?;
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
        Ok(terraform)
    }

    /// Runs it; what it said is in the error when it fails.
    pub(crate) async fn run(&self, below: &str, arguments: &[&str]) -> Result<String> {
        let mut command = self.command(below, arguments)?;
        let said = process::capture(&mut command).await?;
        if said.status.success() {
            return Ok(said.stdout);
        }
        Err(Stop::failed(format!(
            "{}, in {}: {}\n{}",
            process::name(&command),
            tools::shown(&self.folder(below)),
            said.status,
            said.text()
        )))
    }

    /// What the module makes of each case: an object of its inputs.
    pub(crate) async fn render(&self, cases: &Map<String, Value>) -> Result<Map<String, Value>> {
        self.write_cases(cases)?;
        self.run(CASES, &["init", "-input=false"]).await?;
        let apply = [
            "apply",
            "-auto-approve",
            "-input=false",
            "-compact-warnings",
        ];
        self.run(CASES, &apply).await?;
        let outputs = self.run(CASES, &["output", "-json", "rendered"]).await?;
        serde_json::from_str(&outputs).context(|| "terraform output".to_owned())
    }

    /// The values go by a file of variables, for Terraform takes nothing in there for a template.
    fn write_cases(&self, cases: &Map<String, Value>) -> Result<()> {
        let inputs: String = Module::read()?
            .inputs
            .iter()
            .flat_map(|input| {
                [
                    "  ",
                    &input.name,
                    " = try(each.value.",
                    &input.name,
                    ", null)\n",
                ]
            })
            .collect();
        let main = format!(
            "variable \"cases\" {{\n  type = any\n}}\n\
             module \"case\" {{\n  source = \"./..\"\n  for_each = var.cases\n{inputs}}}\n\
             output \"rendered\" {{\n  value = module.case\n  sensitive = true\n}}\n"
        );
        let folder = self.folder(CASES);
        fs::create_dir_all(&folder).context(|| format!("could not make {}", folder.display()))?;
        let values = json!({ "cases": cases }).to_string();
        for (name, text) in [("main.tf", main), ("terraform.tfvars.json", values)] {
            let path = folder.join(name);
            fs::write(&path, text).context(|| format!("could not write {}", path.display()))?;
        }
        Ok(())
    }

    async fn is_there(&self) -> Result<()> {
        let needs = format!(
            "needs terraform, {}.{} or newer: https://developer.hashicorp.com/terraform/install",
            OLDEST.0, OLDEST.1
        );
        let Ok(said) = process::capture(&mut self.command("", &["version", "-json"])?).await else {
            return Err(Stop::missing(needs));
        };
        let version: Value = serde_json::from_str(&said.stdout).unwrap_or_default();
        let version = version["terraform_version"].as_str().unwrap_or_default();
        let mut numbers = version.split('.').map(|n| n.parse::<u64>().unwrap_or(0));
        let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if found >= OLDEST {
            Ok(())
        } else {
            Err(Stop::missing(format!("{needs}; this one is {version:?}")))
        }
    }
}

impl Rendered {
    /// One case out of what [`Terraform::render`] gives.
    pub(crate) fn of(rendered: &Map<String, Value>, case: &str) -> Result<Self> {
        let text = |output: &str| rendered.get(case)?[output].as_str().map(str::to_owned);
        let needed = |output: &str| {
            text(output).ok_or_else(|| Stop::failed(format!("{case}: there is no {output}")))
        };
        Ok(Self {
            cloud_init: needed("cloud_init")?,
            cloud_init_base64: needed("cloud_init_base64")?,
            cloud_init_gzip_base64: needed("cloud_init_gzip_base64")?,
            install_script: text("install_script"),
        })
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let what = || format!("could not copy {} to {}", from.display(), to.display());
    fs::create_dir_all(to).context(what)?;
    for entry in fs::read_dir(from).context(what)? {
        let path = entry.context(what)?.path();
        let name = path.file_name().unwrap_or_default();
        if name.to_string_lossy().starts_with(".terraform") {
            continue;
        }
        if path.is_dir() {
            copy(&path, &to.join(name))?;
        } else {
            let bytes = fs::read(&path).context(what)?;
            if !String::from_utf8_lossy(&bytes).contains("required_providers") {
                fs::write(to.join(name), bytes).context(what)?;
            }
        }
    }
    Ok(())
}
