//! The inputs and outputs of the Terraform module, read from its code, and its page about them, in
//! the form of terraform-docs.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use hcl::expr::Expression;
use hcl::{Block, Body};

use crate::error::{Context, Result, Stop};
use crate::tools;

const PAGE: &str = "terraform/README.md";
const BEGIN: &str = "<!-- BEGIN_TF_DOCS -->\n";
const END: &str = "<!-- END_TF_DOCS -->";

/// What one can say to the module, and what it gives.
pub(crate) struct Module {
    pub(crate) inputs: Vec<Input>,
    outputs: Vec<Output>,
    requires: String,
}

/// A variable.
pub(crate) struct Input {
    pub(crate) name: String,
    description: String,
    kind: String,
    default: Option<String>,
}

struct Output {
    name: String,
    description: String,
}

/// The page as it is, and as the code has it.
pub(crate) fn page() -> Result<(String, String)> {
    let is = fs::read_to_string(path()).context(|| format!("could not read {PAGE}"))?;
    let (before, rest) = is
        .split_once(BEGIN)
        .ok_or_else(|| Stop::failed(format!("{PAGE} has no {BEGIN:?}")))?;
    let (_, after) = rest
        .split_once(END)
        .ok_or_else(|| Stop::failed(format!("{PAGE} has no {END:?}")))?;
    let should_be = format!("{before}{BEGIN}{}{END}{after}", Module::read()?.tables());
    Ok((is, should_be))
}

/// Writes the page anew.
pub(crate) fn write() -> Result<()> {
    let (_, text) = page()?;
    fs::write(path(), text).context(|| format!("could not write {PAGE}"))?;
    println!("wrote {PAGE}");
    Ok(())
}

fn path() -> PathBuf {
    tools::root().join(PAGE)
}

impl Module {
    /// Reads all of the module's files.
    pub(crate) fn read() -> Result<Self> {
        let folder = tools::root().join("terraform");
        let what = || format!("could not read {}", folder.display());
        let mut module = Self {
            inputs: Vec::new(),
            outputs: Vec::new(),
            requires: String::new(),
        };
        for entry in fs::read_dir(&folder).context(what)? {
            let path = entry.context(what)?.path();
            if path.extension().is_some_and(|extension| extension == "tf") {
                let text = fs::read_to_string(&path).context(what)?;
                let body = hcl::parse(&text).context(|| path.display().to_string())?;
                module.take(&body)?;
            }
        }
        module.inputs.sort_by(|a, b| a.name.cmp(&b.name));
        module.outputs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(module)
    }

    /// Names of the outputs.
    pub(crate) fn outputs(&self) -> Vec<&str> {
        let names = self.outputs.iter();
        names.map(|output| output.name.as_str()).collect()
    }

    fn take(&mut self, body: &Body) -> Result<()> {
        for block in body.blocks() {
            match block.identifier() {
                "variable" => self.inputs.push(Input {
                    name: name(block),
                    description: text(block, "description")?,
                    kind: shown(block, "type")?.unwrap_or_else(|| "any".into()),
                    default: shown(block, "default")?,
                }),
                "output" => self.outputs.push(Output {
                    name: name(block),
                    description: text(block, "description")?,
                }),
                "terraform" => self.requires = text(block, "required_version")?,
                _ => {}
            }
        }
        Ok(())
    }

    fn tables(&self) -> String {
        let mut page = format!(
            "## Requirements\n\n| Name | Version |\n|------|---------|\n\
             | <a name=\"requirement_terraform\"></a> [terraform](#requirement\\_terraform) | {} |\n\n\
             ## Providers\n\nNo providers.\n\n## Modules\n\nNo modules.\n\n\
             ## Resources\n\nNo resources.\n\n## Inputs\n\n\
             | Name | Description | Type | Default | Required |\n\
             |------|-------------|------|---------|:--------:|\n",
            self.requires
        );
        for input in &self.inputs {
            let default = input.default.as_deref().map_or("n/a".into(), code);
            let required = if input.default.is_some() { "no" } else { "yes" };
            // Writing into a string does not fail.
            let _ = writeln!(
                page,
                "| {} | {} | {} | {default} | {required} |",
                anchor("input", &input.name),
                cell(&input.description),
                code(&input.kind),
            );
        }
        page.push_str("\n## Outputs\n\n| Name | Description |\n|------|-------------|\n");
        for output in &self.outputs {
            let name = anchor("output", &output.name);
            let _ = writeln!(page, "| {name} | {} |", cell(&output.description));
        }
        page
    }
}

fn name(block: &Block) -> String {
    let label = block.labels().first();
    label
        .map(|label| label.as_str().to_owned())
        .unwrap_or_default()
}

fn attribute<'a>(block: &'a Block, key: &str) -> Option<&'a Expression> {
    let mut attributes = block.body().attributes();
    attributes
        .find(|attribute| attribute.key() == key)
        .map(hcl::Attribute::expr)
}

fn text(block: &Block, key: &str) -> Result<String> {
    match attribute(block, key) {
        Some(Expression::String(text)) => Ok(text.clone()),
        _ => Err(Stop::failed(format!(
            "{} {:?} has no {key}",
            block.identifier(),
            name(block)
        ))),
    }
}

/// An expression as Terraform's own formatter would write it.
fn shown(block: &Block, key: &str) -> Result<Option<String>> {
    attribute(block, key)
        .map(hcl::format::to_string)
        .transpose()
        .context(|| format!("{key} of {:?}", name(block)))
}

fn anchor(kind: &str, name: &str) -> String {
    let escaped = name.replace('_', "\\_");
    format!("<a name=\"{kind}_{name}\"></a> [{escaped}](#{kind}\\_{escaped})")
}

fn code(text: &str) -> String {
    let text = text.trim();
    if text.contains('\n') {
        format!("<pre>{}</pre>", cell(text).replace('\n', "<br/>"))
    } else {
        format!("`{}`", cell(text))
    }
}

fn cell(text: &str) -> String {
    text.trim().replace('|', "\\|")
}
