//! Imports go down: no files of a crate import each other in a circle, but a file and its own children; and no crate
//! names a higher one. The compiler forbids circles of crates.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot read its files fails"
)]

mod imports;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use imports::Crate;

/// Folders of the crates, below the repository.
const CRATES: [&str; 10] = [
    ".",
    "crates/agent-core",
    "crates/dialect-example",
    "crates/dialect-lyftdata",
    "crates/dialect-mimir",
    "crates/dialect-monsys",
    "crates/dialect-ravenxcope",
    "crates/hub",
    "mock-hub",
    "xtask",
];

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn no_files_of_a_crate_import_each_other_in_a_circle() {
    let mut circles = Vec::new();
    for folder in CRATES {
        let source = repository().join(folder).join("src");
        for circle in Crate::read(&source).circles() {
            circles.push(format!("{folder}: {}", circle.join("\n    ")));
        }
    }
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

#[test]
fn a_circle_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("lib.rs", "mod a;\nmod b;\nmod c;\n");
    put("a.rs", "mod child;\nuse crate::b::{self, B};\n");
    put("a/child.rs", "use super::A;\nuse crate::c::C;\n");
    put(
        "b.rs",
        "// use crate::a::A;\nconst TEXT: &str = \"crate::a\";\n",
    );
    put("c.rs", "fn f() { crate::b::g() }\n");
    let none: [Vec<String>; 0] = [];
    assert_eq!(Crate::read(folder.path()).circles(), none);
    put(
        "b.rs",
        "use crate::{\n    a::child::Child,\n    c::C,\n};\n",
    );
    let circles = Crate::read(folder.path()).circles();
    assert_eq!(circles.len(), 1, "{circles:?}");
    let circle = circles[0].join("\n");
    for arrow in ["b -> a/child", "a/child -> c", "c -> b"] {
        assert!(circle.contains(arrow), "{circle}");
    }
    // Tests in place may use what they like.
    put(
        "b.rs",
        "#[cfg(test)]\nmod tests {\n    use crate::c::C;\n}\n",
    );
    assert_eq!(Crate::read(folder.path()).circles(), none);
}

/// The crates of this workspace that each crate depends on, tests aside.
fn dependencies() -> BTreeMap<&'static str, Vec<String>> {
    let names: Vec<PathBuf> = CRATES.iter().map(PathBuf::from).collect();
    let own = |name: &str| name == "hub" || names.iter().any(|path| path.ends_with(name));
    CRATES
        .iter()
        .map(|folder| {
            let manifest = repository().join(folder).join("Cargo.toml");
            let manifest: toml::Table = fs::read_to_string(manifest).unwrap().parse().unwrap();
            let all = manifest["dependencies"].as_table().unwrap().keys();
            (*folder, all.filter(|name| own(name)).cloned().collect())
        })
        .collect()
}

#[test]
fn the_core_names_no_dialect_and_no_dialect_names_another() {
    let dependencies = dependencies();
    let none: [String; 0] = [];
    assert_eq!(dependencies["crates/agent-core"], none);
    assert_eq!(dependencies["crates/hub"], none);
    assert_eq!(dependencies["mock-hub"], ["hub"]);
    for (folder, names) in &dependencies {
        if folder.contains("dialect-") {
            assert_eq!(names, &["agent-core"], "{folder}");
        }
    }
    let core = Crate::read(&repository().join("crates/agent-core/src"));
    for (file, text) in core.texts() {
        let text = text.to_lowercase();
        for name in ["ravenxcope", "mimir", "lyftdata"] {
            assert!(!text.contains(name), "agent-core/src/{file} names {name}");
        }
    }
}
