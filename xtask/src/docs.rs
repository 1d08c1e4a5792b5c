//! `cargo xtask docs`: the pages that are generated from the code, so that they cannot drift.

use std::fs;

use crate::error::{Context, Result};
use crate::{terraform_docs, tools};

/// Writes docs/configuration.md, docs/errors.md and the tables of terraform/README.md.
pub(crate) fn run() -> Result<()> {
    let pages = [
        (
            "docs/configuration.md",
            monsys_agent::reference::configuration_md(),
        ),
        ("docs/errors.md", monsys_agent::reference::errors_md()),
    ];
    for (page, text) in pages {
        fs::write(tools::root().join(page), text).context(|| format!("could not write {page}"))?;
        println!("wrote {page}");
    }
    terraform_docs::write()
}
