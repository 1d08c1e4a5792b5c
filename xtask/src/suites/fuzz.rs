//! The fuzz targets on libFuzzer, each for a limited number of runs and a limited time.
//!
//! libFuzzer needs flags that the pinned compiler has: the coverage that steers it, without a
//! sanitizer, which is of little use for code without `unsafe`. So this needs a C++ compiler and neither
//! nightly nor cargo-fuzz; CONTRIBUTING.md has the long run with both.

use std::fs;
use std::path::{Path, PathBuf};

use tokio::process::Command;
use xtask::error::{Context, Result, Stop};
use xtask::{process, tools};

use super::Count;

/// The flags of cargo-fuzz.
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
/// The most runs of each target, and the most seconds; with `FUZZ_RUNS`, that many runs and no limit
/// of time.
const LIMITS: (u64, u64) = (20_000, 10);

pub(super) async fn run() -> Result<Count> {
    let (runs, seconds) = match std::env::var("FUZZ_RUNS") {
        Ok(text) => {
            let runs = text.parse();
            let what = || format!("FUZZ_RUNS is {text:?}, and has to be a number");
            (runs.context(what)?, 0)
        }
        Err(_) => LIMITS,
    };
    let programs = build().await?;
    let mut count = Count::default();
    for target in targets()? {
        let found = tempfile::tempdir().context(|| "no scratch folder".to_owned())?;
        let mut fuzz = command(&programs.join(&target), &target, found.path())?;
        fuzz.arg(format!("-runs={runs}"))
            .arg(format!("-max_total_time={seconds}"));
        let outcome = process::stdout_of(&mut fuzz).await;
        count.check(&target, outcome.map(|_| println!("{target} passed")));
    }
    Ok(count)
}

/// Builds all targets; their folder.
async fn build() -> Result<PathBuf> {
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
    let version = process::stdout_of(&mut rustc).await?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .ok_or_else(|| Stop::failed(format!("rustc -vV names no host:\n{version}")))
}

/// Lists the targets: each has a folder of seeds.
fn targets() -> Result<Vec<String>> {
    let seeds = tools::root().join("fuzz/seeds");
    let what = || format!("could not read {}", seeds.display());
    let entries = fs::read_dir(&seeds).context(what)?;
    let names = entries.map(|entry| Ok(entry.context(what)?.file_name().to_string_lossy().into()));
    let mut names = names.collect::<Result<Vec<String>>>()?;
    names.sort();
    Ok(names)
}

/// The target, whose runs the seeds of chance and of its folder determine.
fn command(program: &Path, target: &str, found: &Path) -> Result<Command> {
    let artifacts = tools::root().join("fuzz/artifacts").join(target);
    fs::create_dir_all(&artifacts).context(|| format!("could not make {}", artifacts.display()))?;
    let mut command = Command::new(program);
    command
        .args([
            "-seed=1",
            "-max_len=4096",
            "-timeout=10",
            "-print_final_stats=1",
        ])
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        // What it finds goes into the first folder; the second is only read.
        .arg(found)
        .arg(format!("fuzz/seeds/{target}"))
        .current_dir(tools::root());
    Ok(command)
}
