//! The refusals of docs/terraform.md: one line for each validation and precondition of the module.
//! `cargo xtask docs` writes them.

use std::fmt::Write;
use std::path::Path;

use crate::page;
use crate::terraform::code;

const BEGIN: &str = "<!-- BEGIN_REFUSALS -->\n";
const END: &str = "<!-- END_REFUSALS -->";

#[test]
fn the_page_has_each_refusal_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/terraform.md");
    page::check(&path, (BEGIN, END), &table());
}

fn table() -> String {
    let code = code();
    let mut refusals = refusals(&code);
    assert_eq!(refusals.len(), code.matches("error_message").count());
    // The order of files in a folder is not the same everywhere.
    refusals.sort_by(|a, b| a.0.cmp(b.0));
    let mut table = "| input | message |\n|---|---|\n".to_owned();
    for (input, message) in refusals {
        writeln!(table, "| `{input}` | {} |", cell(&message)).unwrap();
    }
    table
}

/// Returns the block and the message of each `error_message`, in code that `terraform fmt` has laid out.
fn refusals(code: &str) -> Vec<(&str, String)> {
    let mut refusals = Vec::new();
    let mut block = "";
    for line in code.lines() {
        if let Some(head) = line.strip_suffix(" {").filter(|_| !line.starts_with(' ')) {
            block = head.split('"').nth(1).unwrap_or_default();
        }
        if let Some((_, text)) = line.split_once("    error_message = ") {
            refusals.push((block, serde_json::from_str(text).unwrap()));
        }
    }
    refusals
}

/// Returns a message as the text of a cell. A value that Terraform inserts is `N`.
fn cell(message: &str) -> String {
    let mut text = String::new();
    let mut rest = message;
    while let Some((before, inserted)) = rest.split_once("${") {
        text += before;
        text.push('N');
        rest = inserted.split_once('}').unwrap().1;
    }
    text += rest;
    text.replace('|', "\\|")
        .replace('_', "\\_")
        .replace('*', "\\*")
}
