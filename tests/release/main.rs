//! A release as users get it: complete, signed and reproducible; its packages; and a binary that needs
//! nothing of its host.
//!
//! `cargo xtask test dist` and `cargo xtask test packages` make the release, and run these.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests lay out hosts, run programs, and fail by panicking"
)]

mod bare;
#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "the other tests use all of it")]
mod common;
mod packages;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The version of the release.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Its architectures, as the kernel and as Debian call them.
const ARCHITECTURES: [(&str, &str); 2] = [("x86_64", "amd64"), ("aarch64", "arm64")];

#[test]
fn sha256sums_lists_every_file() {
    let mut check = Command::new("sha256sum");
    check.args(["--check", "--strict", "--quiet", "SHA256SUMS"]);
    succeeded(check.current_dir(dist()));
    let sums = read("SHA256SUMS");
    let listed: Vec<_> = sums
        .lines()
        .filter_map(|line| Some(line.split_once("  ")?.1))
        .collect();
    let own = ["SHA256SUMS", "SHA256SUMS.minisig", "install.sh"];
    for file in fs::read_dir(dist()).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let is_listed = listed.contains(&name.as_str());
        assert_ne!(is_listed, own.contains(&name.as_str()), "{name}");
    }
    // Two binaries, two tarballs, two debs, two rpms and the SBOM.
    assert_eq!(listed.len(), 9, "{sums}");
}

#[test]
fn install_sh_knows_the_binaries() {
    let script = read("install.sh");
    let mut lines = vec![
        format!("DEFAULT_VERSION='{VERSION}'"),
        format!("DEFAULT_DOWNLOAD_URL='https://get.monsys.ai/releases/v{VERSION}'"),
    ];
    for (arch, _) in ARCHITECTURES {
        let name = binary_name(arch);
        let sum = succeeded(Command::new("sha256sum").arg(dist().join(&name)));
        let (sum, _) = sum.split_once(' ').unwrap();
        lines.push(format!("{sum}  {name}"));
    }
    for line in lines {
        let quoted = |text: &str| {
            text.trim_start_matches("CHECKSUMS='")
                .trim_end_matches('\'')
                == line
        };
        let has = script.lines().any(|text| text == line || quoted(text));
        assert!(has, "there is no line {line}");
    }
}

/// By the program that users have, not by the library that signed.
#[test]
fn minisign_verifies_the_sums_and_no_others() {
    let script = read("install.sh");
    let key = script.lines().find_map(|line| {
        let key = line.strip_prefix("MINISIGN_KEY='")?.strip_suffix('\'')?;
        (!key.is_empty()).then_some(key)
    });
    let key = key.expect("install.sh has no public key");
    let verify = |sums: &Path| {
        let mut minisign = Command::new("minisign");
        minisign
            .args(["-V", "-P", key, "-x"])
            .arg(dist().join("SHA256SUMS.minisig"))
            .arg("-m")
            .arg(sums);
        minisign
    };
    succeeded(&mut verify(&dist().join("SHA256SUMS")));
    let other = tempfile::NamedTempFile::new().unwrap();
    let text = read("SHA256SUMS").replacen('0', "1", 1);
    fs::write(other.path(), text).unwrap();
    let output = verify(other.path()).output().unwrap();
    assert!(!output.status.success(), "it verifies other sums too");
}

#[test]
fn the_tarballs_are_complete() {
    for (arch, _) in ARCHITECTURES {
        let name = binary_name(arch);
        let tarball = dist().join(format!("{name}.tar.gz"));
        let mut tar = Command::new("tar");
        tar.args(["--list", "--verbose", "--numeric-owner", "--file"]);
        let list = succeeded(tar.arg(&tarball));
        for (mode, file) in [
            ("-rwxr-xr-x", "monsys-agent"),
            ("-rw-r--r--", "README.md"),
            ("-rw-r--r--", "LICENSE-MIT"),
            ("-rw-r--r--", "LICENSE-APACHE"),
            ("-rw-r--r--", "THIRD-PARTY-LICENSES"),
            ("-rw-r--r--", "man/monsys-agent.1"),
            ("-rw-r--r--", "man/monsys-agent-enroll.1"),
            ("-rw-r--r--", "completions/_monsys-agent"),
            ("-rw-r--r--", "completions/monsys-agent.bash"),
            ("-rw-r--r--", "systemd/monsys-agent.service"),
        ] {
            lists_file(&list, mode, &format!("{name}/{file}"));
        }
        let foreign = list.lines().find(|line| !line.contains(" 0/0 "));
        assert_eq!(foreign, None, "not owned by root");
        let scratch = tempfile::tempdir().unwrap();
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--file"]).arg(&tarball);
        succeeded(tar.current_dir(scratch.path()));
        is_the_binary(&scratch.path().join(&name).join("monsys-agent"), arch);
    }
}

#[test]
fn the_sbom_keeps_the_schema_of_cyclonedx() {
    const VALIDATE: &str = "
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read())
sys.exit(str(error) if error else 0)
";
    let name = format!("monsys-agent-{VERSION}.cdx.json");
    let mut python = Command::new(from_suite("MONSYS_TEST_SBOM_PYTHON"));
    succeeded(python.args(["-c", VALIDATE]).arg(dist().join(&name)));
    let sbom: Value = serde_json::from_str(&read(&name)).unwrap();
    let parts = sbom["components"].as_array().unwrap();
    let part = |name: &str| parts.iter().find(|part| part["name"] == name);
    for linked in ["ring", "rustls", "tokio"] {
        let part = part(linked).unwrap_or_else(|| panic!("{linked} is missing"));
        for key in ["hashes", "licenses"] {
            let list = part[key].as_array();
            assert!(list.is_some_and(|list| !list.is_empty()), "{part}");
        }
    }
    // Crates that run in the compiler, in tests or in the hub are not linked.
    for other in ["serde_derive", "proptest", "axum", "mock-hub"] {
        assert!(part(other).is_none(), "{other} is in it");
    }
}

/// The folder of the release.
fn dist() -> PathBuf {
    from_suite("MONSYS_TEST_DIST")
}

/// A path that the suite has set.
#[track_caller]
fn from_suite(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable);
    let path = path.unwrap_or_else(|| {
        panic!("{variable} is not set: run this by `cargo xtask test dist` or `packages`")
    });
    path.into()
}

fn binary_name(arch: &str) -> String {
    format!("monsys-agent-{VERSION}-linux-{arch}")
}

/// Reads a text file of the release.
#[track_caller]
fn read(name: &str) -> String {
    fs::read_to_string(dist().join(name)).unwrap()
}

/// Fails the test unless a line of the listing has this mode and this file.
#[track_caller]
fn lists_file(list: &str, mode: &str, file: &str) {
    let path = format!(" {file}");
    let mut lines = list.lines();
    let has = lines.any(|line| line.starts_with(mode) && line.ends_with(&path));
    assert!(has, "no {mode} {file} in\n{list}");
}

/// Fails the test unless a file is the release's binary.
#[track_caller]
fn is_the_binary(file: &Path, arch: &str) {
    let binary = fs::read(dist().join(binary_name(arch))).unwrap();
    let is_same = fs::read(file).unwrap() == binary;
    assert!(is_same, "{} is another binary", file.display());
}

/// Runs a program to its end; fails the test unless it exits with 0. Returns its standard output.
#[track_caller]
fn succeeded(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        text(&output)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr]
        .map(|stream| String::from_utf8_lossy(stream).into_owned())
        .concat()
}
