//! The fuzz targets, each for a bounded number of runs on libFuzzer.
//!
//! What libFuzzer needs of rustc are flags that the pinned compiler has: the coverage that steers
//! it, without a sanitizer, which our code without `unsafe` has little use for. So this needs a
//! C++ compiler and neither nightly nor cargo-fuzz; CONTRIBUTING.md has the long run with both.

use std::fs;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::Count;
use crate::error::{Context, Result, Stop};
use crate::{process, tools};

/// As cargo-fuzz gives them.
const FLAGS: [&str; 8] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-sanitizer-coverage-stack-depth",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
];
/// Runs of each target, unless `FUZZ_RUNS` says otherwise.
const RUNS: u64 = 20_000;

pub(crate) async fn run() -> Result<Count> {
    let runs = match std::env::var("FUZZ_RUNS") {
        Ok(text) => text
            .parse()
            .context(|| format!("FUZZ_RUNS is {text:?}, and has to be a number"))?,
        Err(_) => RUNS,
    };
    let programs = build().await?;
    let mut count = Count::default();
    for target in targets()? {
        let program = programs.join(&target);
        let found = tempfile::tempdir().context(|| "no scratch folder".to_owned())?;
        match process::capture(&mut fuzz(&program, &target, runs, found.path())?).await? {
            ran if ran.status.success() => {
                count.passed += 1;
                println!("{target}: {runs} runs");
            }
            ran => {
                count.failed += 1;
                println!("{}{target}: {}", ran.text(), ran.status);
            }
        }
    }
    Ok(count)
}

/// Builds all targets; the directory that they are in.
async fn build() -> Result<PathBuf> {
    let has_compiler = std::env::var_os("CXX").is_some()
        || process::capture(Command::new("c++").arg("--version"))
            .await
            .is_ok_and(|version| version.status.success());
    if !has_compiler {
        tools::apt(&["g++"]).await?;
    }
    let triple = host_triple().await?;
    let target = tools::target().join("fuzz");
    let mut cargo = tools::cargo(&["build", "--release", "--locked", "--bins"]);
    cargo
        .arg("--manifest-path=fuzz/Cargo.toml")
        .arg("--target-dir")
        .arg(&target)
        // With a target named, build scripts are built without the flags.
        .args(["--target", &triple])
        .env("RUSTFLAGS", FLAGS.join(" "));
    process::run(&mut cargo).await?;
    Ok(target.join(triple).join("release"))
}

async fn host_triple() -> Result<String> {
    let mut rustc = Command::new("rustc");
    rustc.arg("-vV").current_dir(tools::root());
    let version = process::capture(&mut rustc).await?.stdout;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .ok_or_else(|| Stop::failed(format!("rustc -vV names no host:\n{version}")))
}

/// A folder of seeds is a target.
fn targets() -> Result<Vec<String>> {
    let seeds = tools::root().join("fuzz/seeds");
    let what = || format!("could not read {}", seeds.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&seeds).context(what)? {
        names.push(
            entry
                .context(what)?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    names.sort();
    Ok(names)
}

/// The same seed and the same seeds make the same runs.
fn fuzz(program: &Path, target: &str, runs: u64, found: &Path) -> Result<Command> {
    let artifacts = tools::root().join("fuzz/artifacts").join(target);
    fs::create_dir_all(&artifacts).context(|| format!("could not make {}", artifacts.display()))?;
    let mut command = Command::new(program);
    command
        .args([&format!("-runs={runs}"), "-seed=1", "-max_len=4096"])
        .args(["-timeout=10", "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        // What it finds goes into the first folder; the second is only read.
        .arg(found)
        .arg(format!("fuzz/seeds/{target}"))
        .current_dir(tools::root());
    Ok(command)
}
