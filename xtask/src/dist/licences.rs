//! The licences of all that is linked into the agent: they ask to go along with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use super::linked::Linked;
use super::stage::files;
use xtask::error::{Result, Stop};

/// The first parts of the names of such files.
const NAMES: [&str; 5] = ["copying", "copyright", "licence", "license", "notice"];

const HEAD: &str = "\
monsys-agent holds the work of others, whose licences follow, each with the crates that it is of.
It is linked with two more, which are not crates:

  musl libc: MIT, Copyright (c) 2005-2020 Rich Felker, et al.
  the Rust standard library: MIT OR Apache-2.0, Copyright (c) The Rust Project Contributors
";

/// One text that holds each licence once.
pub(super) fn make(linked: &[Linked]) -> Result<String> {
    let mut owners: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for Linked { package, .. } in linked.iter().filter(|c| !c.package["source"].is_null()) {
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        let name = format!("{} {} ({})", text("name"), text("version"), text("license"));
        for licence in licences(text("manifest_path"))? {
            owners.entry(licence).or_default().insert(name.clone());
        }
    }
    if owners.is_empty() {
        return Err(Stop::failed("no crate has a licence"));
    }
    // By who they are of: the order of the texts themselves says nothing to a reader.
    let mut all: Vec<_> = owners.into_iter().map(|(text, of)| (of, text)).collect();
    all.sort();
    let mut page = HEAD.to_owned();
    for (of, text) in all {
        let of: Vec<_> = of.into_iter().collect();
        let _ = write!(page, "\n{}\n{}\n\n{text}\n", "=".repeat(78), of.join("\n"));
    }
    Ok(page)
}

/// The texts beside a crate's manifest. A crate without any names its licence in the manifest.
fn licences(manifest: &str) -> Result<Vec<String>> {
    let folder = Path::new(manifest).parent().unwrap_or(Path::new("/"));
    let is_licence = |file: &Path| {
        let name = file.file_name().unwrap_or_default().to_ascii_lowercase();
        let name = name.to_string_lossy();
        file.is_file() && NAMES.iter().any(|begin| name.starts_with(begin))
    };
    let found = files(folder)?.into_iter().filter(|file| is_licence(file));
    found
        .map(|file| {
            let text = super::folder::read(&file)?;
            Ok(String::from_utf8_lossy(&text)
                .replace('\r', "")
                .trim()
                .to_owned())
        })
        .collect()
}
