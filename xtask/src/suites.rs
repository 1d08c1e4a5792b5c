//! `cargo xtask test`: runs the suites of [`list::SUITES`], and counts their tests.
//!
//! To add a suite, write its line there. Several suites run beside each other, each in a process of its
//! own whose output is printed when it ends. A suite that cannot run here returns [`Stop::Missing`]:
//! that is printed loudly, and is a failure in CI.

mod cores;
mod deps;
mod fuzz;
mod list;
mod nextest;
mod openapi;
mod os_release;
mod prepare;
mod report;
mod shell;
mod trees;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Instant;

use clap::Args;
use tokio::process::Command;
use tokio::task::JoinSet;
use xtask::error::{Context, Result, Stop};
use xtask::machine::Watch;
use xtask::process::{self, Running};
use xtask::tools;

use list::{Run, SUITES, Suite};
pub(crate) use report::Count;
use report::{Ran, Report};

/// A suite, or its preparation, at work.
type Pending<T> = Pin<Box<dyn Future<Output = Result<T>>>>;

#[derive(Args, Clone)]
pub(crate) struct Options {
    /// The suites to run; all of them when none is named
    suites: Vec<String>,
    /// List the suites and their subjects
    #[arg(long)]
    list: bool,
    /// Run a million cases of the suite `scrub`, all faults of `crash`, and each cloud-init in `hosts`
    #[arg(long)]
    long: bool,
    /// Number of suites that run at the same time
    #[arg(long, value_name = "N", default_value = "2")]
    jobs: usize,
    /// Write the counts of the one suite here
    #[arg(long, value_name = "FILE", hide = true)]
    outcome: Option<PathBuf>,
}

/// Runs the suites; ends with a table and the plain line of counts.
pub(crate) async fn run(options: &Options) -> Result<()> {
    if options.list {
        for suite in SUITES {
            println!("{:<12} {}", suite.name, suite.about);
        }
        return Ok(());
    }
    let chosen = choose(&options.suites)?;
    if let (Some(file), [suite]) = (&options.outcome, chosen.as_slice()) {
        let ran = here(suite, options.long).await;
        return fs::write(file, ran.to_json()).context(|| format!("no {}", file.display()));
    }
    let mut report = Report::new(is_ci());
    let watch = Watch::start(tools::project())?;
    if let [suite] = chosen.as_slice() {
        println!("=== {}: {} ===", suite.name, suite.about);
        let ran = here(suite, options.long).await;
        println!("--- {ran}");
        report.add(ran);
    } else {
        beside_each_other(&chosen, options, &mut report).await?;
    }
    report.add(unchanged(watch));
    println!("\n{report}");
    report.result()
}

/// Checks that no suite has changed a file of this machine.
fn unchanged(watch: Watch) -> Ran {
    let start = Instant::now();
    let mut count = Count::default();
    count.check("this machine is unchanged", watch.end());
    Ran {
        name: "machine",
        outcome: Ok(count),
        time: start.elapsed(),
    }
}

/// Returns whether a suite that cannot run is a failure.
fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|ci| ci == "true")
}

fn choose(names: &[String]) -> Result<Vec<&'static Suite>> {
    if let Some(unknown) = names
        .iter()
        .find(|name| SUITES.iter().all(|suite| suite.name != **name))
    {
        return Err(Stop::failed(format!(
            "there is no suite named {unknown:?}; `cargo xtask test --list` shows them"
        )));
    }
    let wanted = |suite: &&Suite| names.is_empty() || names.iter().any(|name| name == suite.name);
    Ok(SUITES.iter().filter(wanted).collect())
}

/// Runs a suite in this process.
async fn here(suite: &'static Suite, is_long: bool) -> Ran {
    let start = Instant::now();
    let outcome = outcome(suite, is_long).await;
    if let Err(stop) = &outcome {
        println!("{}: {stop}", suite.name);
    }
    Ran {
        name: suite.name,
        outcome,
        time: start.elapsed(),
    }
}

async fn outcome(suite: &Suite, is_long: bool) -> Result<Count> {
    if suite.needs_namespaces {
        let mut namespaces = Command::new("unshare");
        namespaces.args(["--net", "--mount", "true"]);
        if !nix::unistd::geteuid().is_root() || !process::succeeds(&mut namespaces).await {
            return Err(Stop::missing("needs root that may make namespaces"));
        }
    }
    tools::programs(suite.programs).await?;
    match &suite.run {
        Run::Cargo(commands) => {
            let mut count = Count::default();
            for words in *commands {
                let words: Vec<_> = words.split(' ').collect();
                let mut cargo = tools::cargo(&words);
                count.check(&words.join(" "), process::run(&mut cargo).await);
            }
            Ok(count)
        }
        Run::Programs(name, runs) => {
            let [program] = tools::build([name], &[]).await?;
            let mut count = Count::default();
            for words in *runs {
                let mut command = Command::new(&program);
                command.args(words.split_whitespace());
                count.check(&format!("{name} {words}"), process::run(&mut command).await);
            }
            Ok(count)
        }
        Run::Tests(selection, prepare) => {
            let prepared = prepare(is_long).await?;
            let mut count = prepared.count;
            count += nextest::run(selection, &prepared.variables).await?;
            Ok(count)
        }
        Run::Own(own) => own().await,
    }
}

/// Runs each suite in a process of its own, a limited number at a time.
async fn beside_each_other(
    chosen: &[&'static Suite],
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    // A suite must not see the system change under it. What cannot be installed, its suite reports.
    let programs: Vec<_> = chosen.iter().flat_map(|suite| suite.programs).collect();
    let programs: Vec<_> = programs.into_iter().copied().collect();
    if let Err(stop) = tools::programs(&programs).await {
        println!("{stop}");
    }
    let folder = tools::target().join("suites");
    fs::create_dir_all(&folder).context(|| format!("could not make {}", folder.display()))?;
    let mut waiting = chosen.iter();
    let mut running = JoinSet::new();
    loop {
        while running.len() < options.jobs.max(1)
            && let Some(suite) = waiting.next()
        {
            println!("=== {} starts: {}", suite.name, suite.about);
            running.spawn(child(suite, options.long, folder.clone()));
        }
        let Some(ended) = running.join_next().await else {
            return Ok(());
        };
        let (ran, log) = ended.context(|| "a suite's task".to_owned())?;
        println!("\n=== {}, its output ===\n{log}--- {ran}", ran.name);
        report.add(ran);
    }
}

/// Runs a suite as a child process; its outcome and its output.
async fn child(suite: &'static Suite, is_long: bool, folder: PathBuf) -> (Ran, String) {
    let start = Instant::now();
    let log = folder.join(format!("{}.log", suite.name));
    let outcome = child_outcome(suite, is_long, &folder, &log).await;
    let ran = Ran {
        name: suite.name,
        outcome,
        time: start.elapsed(),
    };
    let log = fs::read(&log).unwrap_or_default();
    (ran, String::from_utf8_lossy(&log).into_owned())
}

async fn child_outcome(suite: &Suite, is_long: bool, folder: &Path, log: &Path) -> Result<Count> {
    let what = || format!("could not start the suite {}", suite.name);
    let file = folder.join(format!("{}.outcome", suite.name));
    let _ = fs::remove_file(&file);
    let stdout = File::create(log).context(what)?;
    let stderr = stdout.try_clone().context(what)?;
    let mut command = Command::new(std::env::current_exe().context(what)?);
    command.args(["test", suite.name, "--outcome"]).arg(&file);
    if is_long {
        command.arg("--long");
    }
    command.stdout(stdout).stderr(stderr);
    let status = Running::spawn(&mut command)?
        .ends_its_children()
        .wait()
        .await?;
    match fs::read_to_string(&file) {
        Ok(json) => Ran::outcome_of(&json),
        Err(_) => Err(Stop::failed(format!("it ended without counts: {status}"))),
    }
}
