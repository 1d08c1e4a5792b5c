//! The role's variables: the same in its argument specs, its defaults and docs/ansible.md.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::collection::{Ansible, ROLE, root};

const DEFAULTS: &str = "ansible/roles/monsys_agent/defaults/main.yml";
const PAGE: &str = "docs/ansible.md";
/// The table of variables is between these lines of the page.
const MARKS: [&str; 2] = ["<!-- variables -->\n", "<!-- end of variables -->\n"];

/// A variable of the role, as its argument specs have it.
struct Variable {
    kind: String,
    default: Value,
    choices: Vec<String>,
    about: String,
}

/// The role's variables, as `ansible-doc` shows them to its users.
fn variables(ansible: &Ansible) -> BTreeMap<String, Variable> {
    let shown = ansible.run("ansible-doc", &["--type=role", "--json", ROLE], ".");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let options = &shown[ROLE]["entry_points"]["main"]["options"];
    let options = options.as_object().unwrap().iter();
    options
        .map(|(name, option)| (name.clone(), Variable::of(option)))
        .collect()
}

#[test]
fn the_defaults_are_those_of_the_argument_specs() {
    const TO_JSON: &str =
        "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    let ansible = Ansible::new();
    let defaults = ansible.run("python", &["-c", TO_JSON, DEFAULTS], ".");
    let defaults: BTreeMap<String, Value> = serde_json::from_str(&defaults).unwrap();
    let specified: BTreeMap<String, Value> = variables(&ansible)
        .into_iter()
        .map(|(name, variable)| (name, variable.default))
        .collect();
    assert_eq!(defaults, specified);
}

#[test]
fn the_page_has_exactly_these_variables() {
    let page = fs::read_to_string(root().join(PAGE)).unwrap();
    let rows: String = variables(&Ansible::new())
        .iter()
        .map(|(name, variable)| variable.row(name))
        .collect();
    let table = format!("\n| variable | values | default | |\n|---|---|---|---|\n{rows}\n");
    let between = page
        .split_once(MARKS[0])
        .and_then(|(_, rest)| rest.split_once(MARKS[1]))
        .map(|(between, _)| between);
    assert!(
        between == Some(&table),
        "the table of {PAGE} is not that of the argument specs. Put this between its marks:\n{table}"
    );
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
            "int" => "integer".to_owned(),
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

/// Converts Ansible's markup (`V(true)`, `O(name)`, `C(code)`) into Markdown.
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

#[test]
fn markup_becomes_markdown() {
    assert_eq!(
        plain("With O(a=b), V(true) or C(x)."),
        "With `a=b`, `true` or `x`."
    );
}
