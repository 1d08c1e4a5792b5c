//! The tables of terraform/README.md, in the form of terraform-docs: they are those of the code.
//! `cargo xtask docs` writes them.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::terraform::{code, source};

const BEGIN: &str = "<!-- BEGIN_TF_DOCS -->\n";
const END: &str = "<!-- END_TF_DOCS -->";

/// A block of the module at the outermost level.
struct Block {
    kind: String,
    name: String,
    /// Its own attributes, without those of the blocks in it.
    attributes: Vec<(String, String)>,
}

#[test]
fn the_page_has_the_tables_of_the_code() {
    check(&source("README.md"), (BEGIN, END), &tables());
}

/// Checks that a page has `text` between its marks, or writes it for `cargo xtask docs`.
#[track_caller]
pub(crate) fn check(path: &Path, (begin, end): (&str, &str), text: &str) {
    let page = fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    let expected = format!("{before}{begin}{text}{end}{after}");
    if std::env::var_os("MONSYS_WRITE_PAGES").is_some() {
        fs::write(path, &expected).unwrap();
        println!("wrote {}", path.display());
    } else {
        assert!(page == expected, "not up to date: run `cargo xtask docs`");
    }
}

/// Names of the module's outputs.
pub(crate) fn outputs() -> Vec<String> {
    let blocks = blocks(&code());
    let outputs = blocks.into_iter().filter(|block| block.kind == "output");
    outputs.map(|output| output.name).collect()
}

fn tables() -> String {
    let mut blocks = blocks(&code());
    blocks.sort_by(|a, b| a.name.cmp(&b.name));
    let of = |kind: &'static str| blocks.iter().filter(move |block| block.kind == kind);
    let version = of("terraform").next().unwrap().text("required_version");
    let mut page = format!(
        "## Requirements\n\n| Name | Version |\n|------|---------|\n\
         | <a name=\"requirement_terraform\"></a> [terraform](#requirement\\_terraform) | {version} |\n\n\
         ## Providers\n\nNo providers.\n\n## Modules\n\nNo modules.\n\n\
         ## Resources\n\nNo resources.\n\n## Inputs\n\n\
         | Name | Description | Type | Default | Required |\n\
         |------|-------------|------|---------|:--------:|\n",
    );
    for input in of("variable") {
        let default = input.attribute("default");
        let required = if default.is_some() { "no" } else { "yes" };
        writeln!(
            page,
            "| {} | {} | {} | {} | {required} |",
            anchor("input", &input.name),
            cell(&input.text("description")),
            cell(&format!("`{}`", input.attribute("type").unwrap_or("any"))),
            cell(&default.map_or("n/a".to_owned(), |value| format!("`{value}`"))),
        )
        .unwrap();
    }
    page.push_str("\n## Outputs\n\n| Name | Description |\n|------|-------------|\n");
    for output in of("output") {
        let name = anchor("output", &output.name);
        let description = cell(&output.text("description"));
        writeln!(page, "| {name} | {description} |").unwrap();
    }
    page
}

impl Block {
    fn attribute(&self, key: &str) -> Option<&str> {
        let mut attributes = self.attributes.iter();
        let (_, value) = attributes.find(|(name, _)| name == key)?;
        Some(value)
    }

    /// The value of an attribute that is a string without a template.
    fn text(&self, key: &str) -> String {
        let value = self.attribute(key);
        let text = value.and_then(|value| serde_json::from_str(value).ok());
        text.unwrap_or_else(|| panic!("{} {:?} has no {key}", self.kind, self.name))
    }
}

/// Reads the blocks of code that `terraform fmt` has laid out: a block ends with a brace in the first
/// column, and its own attributes begin in the third.
fn blocks(code: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_open = false;
    for line in code.lines() {
        if let Some(head) = line.strip_suffix(" {").filter(|_| !line.starts_with(' ')) {
            let (kind, name) = head.split_once(' ').unwrap_or((head, ""));
            blocks.push(Block {
                kind: kind.to_owned(),
                name: name.trim_matches('"').to_owned(),
                attributes: Vec::new(),
            });
        }
        let Some(block) = blocks.last_mut() else {
            continue;
        };
        let inner = line.strip_prefix("  ").unwrap_or_default();
        let is_comment = line.trim_start().starts_with('#');
        match inner.split_once(" = ") {
            Some((name, value)) if !inner.starts_with([' ', '#']) => {
                let value = value.trim().to_owned();
                block.attributes.push((name.trim_end().to_owned(), value));
                is_open = true;
            }
            _ if inner.is_empty() || inner.ends_with(" {") && !inner.starts_with(' ') => {
                is_open = false;
            }
            _ if is_open && !is_comment => {
                if let Some((_, value)) = block.attributes.last_mut() {
                    append(value, inner.trim());
                }
            }
            _ => {}
        }
    }
    blocks
}

/// Appends a line to a value that goes on over several lines, as Terraform writes it in one.
fn append(value: &mut String, line: &str) {
    let words: Vec<_> = line.split_whitespace().collect();
    let separator = match (value.ends_with('{'), line.starts_with('}')) {
        (true, _) | (_, true) => " ",
        _ => ", ",
    };
    value.push_str(separator);
    value.push_str(&words.join(" "));
}

fn anchor(kind: &str, name: &str) -> String {
    let escaped = name.replace('_', "\\_");
    format!("<a name=\"{kind}_{name}\"></a> [{escaped}](#{kind}\\_{escaped})")
}

fn cell(text: &str) -> String {
    text.trim().replace('|', "\\|")
}
