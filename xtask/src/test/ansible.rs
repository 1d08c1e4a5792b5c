//! The Ansible collection: built and installed as its users do it, linted, its syntax checked, and
//! its variables the same in the role, in its argument specs and in docs/ansible.md.

mod outcomes;
mod refusals;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use super::Count;
use crate::error::{Context, Result, Stop};
use crate::{process, tools};

const COLLECTION: &str = "ansible";
const ROLE: &str = "gotrust.monsys.monsys_agent";
const DEFAULTS: &str = "ansible/roles/monsys_agent/defaults/main.yml";
const PAGE: &str = "docs/ansible.md";
/// The table of variables is between these lines of the page.
const MARKS: [&str; 2] = ["<!-- variables -->\n", "<!-- end of variables -->\n"];

pub(crate) async fn run() -> Result<Count> {
    let ansible = Ansible::new(venv().await?)?;
    let mut count = Count::default();
    let mut tell = |outcome: Result<()>| match outcome {
        Ok(()) => count.passed += 1,
        Err(stop) => {
            count.failed += 1;
            println!("{stop}");
        }
    };
    let install = ["collection", "install", "--offline", COLLECTION];
    tell(ansible.check("ansible-galaxy", &install, ".").await);
    let lint = ["--offline", "--profile=production", "--strict"];
    tell(ansible.check("ansible-lint", &lint, COLLECTION).await);
    tell(
        ansible
            .check("yamllint", &["--strict", "."], COLLECTION)
            .await,
    );
    for playbook in playbooks()? {
        let syntax = ["--syntax-check", "--inventory=localhost,", &playbook];
        tell(ansible.check("ansible-playbook", &syntax, ".").await);
    }
    let options = ansible.options().await?;
    tell(ansible.defaults(&options).await);
    for outcome in refusals::all(&ansible).await {
        tell(outcome);
    }
    for outcome in outcomes::all(&ansible).await {
        tell(outcome);
    }
    tell(page(&options));
    Ok(count)
}

/// Where Ansible's programs are, as `xtask/requirements/ansible.txt` pins them.
pub(crate) async fn venv() -> Result<PathBuf> {
    tools::venv("ansible", "xtask/requirements/ansible.txt").await
}

/// Ansible with a home of its own, which goes with it.
struct Ansible {
    bin: PathBuf,
    home: TempDir,
}

/// A variable of the role, as its argument specs have it.
struct Variable {
    kind: String,
    default: Value,
    choices: Vec<String>,
    about: String,
}

impl Ansible {
    fn new(bin: PathBuf) -> Result<Self> {
        let home = tempfile::tempdir().context(|| "no scratch directory".to_owned())?;
        Ok(Self { bin, home })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("{}:{path}", self.bin.display()))
            .env("HOME", self.home.path())
            .env("LC_ALL", "C.UTF-8");
        command
    }

    async fn check(&self, program: &str, arguments: &[&str], folder: &str) -> Result<()> {
        let mut command = self.command(program);
        command
            .args(arguments)
            .current_dir(tools::root().join(folder));
        process::run(&mut command).await
    }

    /// What a program prints as JSON.
    async fn json(&self, program: &str, arguments: &[&str]) -> Result<Value> {
        let mut command = self.command(program);
        command.args(arguments).current_dir(tools::root());
        let said = process::capture(&mut command).await?;
        process::succeeded(program, said.status)
            .map_err(|stop| Stop::failed(format!("{stop}\n{}", said.stderr)))?;
        serde_json::from_str(&said.stdout).context(|| format!("{program} printed no JSON"))
    }

    /// The role's variables, as `ansible-doc` shows them to its users.
    async fn options(&self) -> Result<BTreeMap<String, Variable>> {
        let shown = self
            .json("ansible-doc", &["--type=role", "--json", ROLE])
            .await?;
        let options = shown[ROLE]["entry_points"]["main"]["options"].as_object();
        let options = options
            .ok_or_else(|| Stop::failed(format!("ansible-doc shows no options of {ROLE}")))?;
        Ok(options
            .iter()
            .map(|(name, option)| (name.clone(), Variable::of(option)))
            .collect())
    }

    /// The role's defaults are those that its argument specs tell.
    async fn defaults(&self, options: &BTreeMap<String, Variable>) -> Result<()> {
        const TO_JSON: &str =
            "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
        let defaults = self.json("python", &["-c", TO_JSON, DEFAULTS]).await?;
        let defaults: BTreeMap<String, Value> =
            serde_json::from_value(defaults).context(|| format!("{DEFAULTS} is no map"))?;
        let told: BTreeMap<String, Value> = options
            .iter()
            .map(|(name, option)| (name.clone(), option.default.clone()))
            .collect();
        if defaults == told {
            return Ok(());
        }
        Err(Stop::failed(format!(
            "{DEFAULTS} and the argument specs differ:\n{defaults:#?}\n{told:#?}"
        )))
    }
}

impl Variable {
    fn of(option: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let texts = |value: &Value| -> Vec<String> {
            value
                .as_array()
                .map_or_else(|| vec![text(value)], |all| all.iter().map(text).collect())
        };
        Self {
            kind: text(&option["type"]),
            default: option["default"].clone(),
            choices: option["choices"]
                .as_array()
                .map(|_| texts(&option["choices"]))
                .unwrap_or_default(),
            about: plain(&texts(&option["description"]).join(" ")),
        }
    }

    /// Its row of the page's table.
    fn row(&self, name: &str) -> String {
        let kind = match self.kind.as_str() {
            _ if !self.choices.is_empty() => self.choices.join(", "),
            "raw" => "list or string".to_owned(),
            "bool" => "true, false".to_owned(),
            _ => "string".to_owned(),
        };
        let default = match &self.default {
            Value::String(text) if text.is_empty() => "-".to_owned(),
            // Even in code, a bar would end the cell.
            Value::String(text) => format!("`{}`", text.replace('|', "\\|")),
            other => format!("`{other}`"),
        };
        format!("| `{name}` | {kind} | {default} | {} |\n", self.about)
    }
}

/// Ansible's markup (`V(true)`, `O(name)`, `C(code)`) as Markdown.
fn plain(text: &str) -> String {
    let mut rest = text;
    let mut plain = String::new();
    while let Some(at) = ["V(", "O(", "C("]
        .iter()
        .filter_map(|mark| rest.find(mark))
        .min()
    {
        let (before, marked) = rest.split_at(at);
        let (inner, after) = marked[2..].split_once(')').unwrap_or((&marked[2..], ""));
        plain.extend([before, "`", inner, "`"]);
        rest = after;
    }
    plain + rest
}

/// The page has exactly these variables.
fn page(options: &BTreeMap<String, Variable>) -> Result<()> {
    let text = fs::read_to_string(tools::root().join(PAGE))
        .context(|| format!("could not read {PAGE}"))?;
    let rows: String = options
        .iter()
        .map(|(name, option)| option.row(name))
        .collect();
    let table = format!("\n| variable | values | default | |\n|---|---|---|---|\n{rows}\n");
    let between = text
        .split_once(MARKS[0])
        .and_then(|(_, rest)| rest.split_once(MARKS[1]))
        .map(|(between, _)| between);
    if between == Some(&table) {
        return Ok(());
    }
    Err(Stop::failed(format!(
        "the table of {PAGE} is not that of the argument specs. Put this between its marks:\n{table}"
    )))
}

/// Every playbook of the collection, relative to the root.
fn playbooks() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for folder in ["playbooks", "extensions/molecule/default"] {
        let folder = Path::new(COLLECTION).join(folder);
        let entries = fs::read_dir(tools::root().join(&folder))
            .context(|| format!("could not list {}", folder.display()))?;
        for name in entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
            if name != "molecule.yml" {
                found.push(folder.join(name).display().to_string());
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_becomes_markdown() {
        assert_eq!(
            plain("With O(a=b), V(true) or C(x)."),
            "With `a=b`, `true` or `x`."
        );
    }
}
