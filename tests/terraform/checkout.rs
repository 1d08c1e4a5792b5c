//! A checkout with git on Windows: `core.autocrlf` may change the ends of lines, and a shell on the host would read
//! the carriage returns.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::terraform::{Terraform, succeeded};

/// A PEM file with the ends of lines of a checkout.
const CA: [&str; 3] = [
    "-----BEGIN CERTIFICATE-----",
    "MIIB",
    "-----END CERTIFICATE-----",
];
const ATTRIBUTES: &str = ".gitattributes";

#[test]
fn a_checkout_with_crlf_gives_the_same_bytes() {
    let expected = Terraform::new().render(&cases("\n"));
    assert_eq!(expected.len(), 4);
    // Of a copy without the attributes, as of an archive that was made on Windows.
    let (folder, checkout) = cloned(|path| path != Path::new(ATTRIBUTES));
    let boot = fs::read_to_string(checkout.join("terraform/boot.sh")).unwrap();
    assert!(boot.contains("\r\n"), "git has changed no end of a line");
    let rendered = Terraform::of(&checkout.join("terraform")).render(&cases("\r\n"));
    for (case, outputs) in &expected {
        for (output, text) in outputs.as_object().unwrap() {
            assert!(
                &rendered[case][output] == text,
                "{case}: {output} differs: {}",
                rendered[case][output]
            );
        }
    }
    drop(folder);
}

#[test]
fn a_checkout_on_windows_has_the_bytes_of_the_repository() {
    let (folder, checkout) = cloned(|_| true);
    let files = tracked();
    assert!(files.iter().any(|path| path.ends_with("boot.sh")));
    for path in files {
        let (there, here) = (
            fs::read(checkout.join(&path)).unwrap(),
            fs::read(root().join(&path)).unwrap(),
        );
        assert!(there == here, "{} differs", path.display());
    }
    drop(folder);
}

/// Cases that use every file and every text of the module.
fn cases(end_of_line: &str) -> Map<String, Value> {
    let token = "enrl_0123456789abcdefghij";
    let cases = json!({
        "plain": {"monsys_token": format!("{token}{end_of_line}"), "tags": ["a", "b"], "role": "web"},
        "ca": {"monsys_token": token, "ca_pem": CA.join(end_of_line) + end_of_line},
        "zone": {"monsys_token": token, "availability_zone_tag": true},
        "own": {
            "monsys_token_from": {"aws_ssm_parameter": {"name": "/monsys/enrolment", "region": "eu-west-1"}},
            "extra_runcmd": ["echo done", ["touch", "/run/a file"]],
            "extra_cloud_config": {"packages": ["awscli"]},
        },
    });
    cases.as_object().unwrap().clone()
}

/// Commits the tracked files that are `wanted`, with their present content, and clones them as git on Windows does.
/// Returns the folder of both, and the checkout.
fn cloned(wanted: impl Fn(&Path) -> bool) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (origin, checkout) = (folder.path().join("origin"), folder.path().join("checkout"));
    for path in tracked().iter().filter(|path| wanted(path)) {
        let copy = origin.join(path);
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(root().join(path), copy).unwrap();
    }
    git(&origin, &["init", "--quiet"]);
    git(
        &origin,
        &["-c", "core.autocrlf=false", "add", "--all", "--force"],
    );
    let commit = [
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@localhost",
        "-c",
        "commit.gpgsign=false",
        "commit",
        "--quiet",
        "--message=all",
    ];
    git(&origin, &commit);
    let paths = [&origin, &checkout].map(|path| path.to_str().unwrap());
    let clone = [
        "clone",
        "--quiet",
        "-c",
        "core.autocrlf=true",
        paths[0],
        paths[1],
    ];
    git(folder.path(), &clone);
    (folder, checkout)
}

/// Returns the files of the repository that git tracks, and that no change of the working tree has removed.
fn tracked() -> Vec<PathBuf> {
    let listed = git(
        root(),
        &[
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ],
    );
    let paths = listed.split('\0').filter(|path| !path.is_empty());
    let paths = paths.map(PathBuf::from);
    paths.filter(|path| root().join(path).is_file()).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs git without the settings of this machine's user; returns its standard output.
#[track_caller]
fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut git = Command::new("git");
    git.args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1");
    succeeded(&git.output().unwrap())
}
