//! What the project does to itself: `cargo xtask demo`, `test`, `bench`, `dist` and `docs`.
//!
//! [`demo`] shows one enrolment from end to end, [`mod@test`] holds the suites, a file each,
//! [`mod@bench`] measures, [`dist`] makes a release, and [`docs`] writes the pages that come from the
//! code. Below them: [`hub`]
//! runs the mock hub, [`tools`] gets what a suite needs, [`process`] starts and ends children.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "talking to a person is what these commands are for"
)]

mod bench;
mod cloud_config;
mod cloud_init;
mod demo;
mod dist;
mod docs;
mod error;
mod hub;
mod no_services;
mod process;
mod terraform;
mod terraform_docs;
mod test;
mod tools;
mod trees;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::error::{Context, Result, Stop};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "What the project does to itself")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Enrol this very host into a hub on loopback, and prove it
    Demo {
        /// Hold the hub and the scratch root open until Enter, to try the `$` lines by hand
        #[arg(long)]
        keep: bool,
    },
    /// Run every check of the project, or the suites that are named
    Test {
        /// The suites to run, in the order of --list; all of them when none is named
        suites: Vec<String>,
        /// List the suites and what each checks
        #[arg(long)]
        list: bool,
        /// Run a million cases of the suite `scrub`
        #[arg(long)]
        long: bool,
    },
    /// Measure the agent and the hub together, and prove that they keep their promises meanwhile
    Bench(bench::Bench),
    /// Make all that a release is made of, for both architectures, into target/dist/
    Dist(dist::Options),
    /// Write the pages that are generated from the code
    Docs,
    /// Write the templates under cloud-init/ from the Terraform module; takes terraform
    CloudInit,
}

fn main() -> ExitCode {
    match started(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Told) => ExitCode::FAILURE,
        Err(stop) => {
            eprintln!("\nerror: {stop}");
            ExitCode::FAILURE
        }
    }
}

fn started(command: Command) -> Result<()> {
    // Starting a process holds up its thread until the process runs: the storm starts hundreds in
    // a second, and is to see at once when one ends.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(8)
        .enable_all()
        .build()
        .context(|| "no async runtime".to_owned())?;
    let outcome = runtime.block_on(until_interrupted(run(command)));
    // Tasks get to end their children; a thread that still waits for Enter must not hold us up.
    runtime.shutdown_timeout(Duration::from_millis(500));
    outcome
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Demo { keep } => demo::run(keep).await?.verdict(),
        Command::Test { list: true, .. } => {
            test::list();
            Ok(())
        }
        Command::Test { suites, long, .. } => {
            test::scrub::be_long(long);
            test::run(&suites).await
        }
        Command::Bench(bench) => bench.run().await,
        Command::Dist(options) => dist::run(&options).await.map(drop),
        Command::Docs => docs::run(),
        Command::CloudInit => cloud_config::run().await,
    }
}

/// Ends `work` on Ctrl-C or SIGTERM. Dropping it ends its children and removes its scratch.
async fn until_interrupted<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        done = work => done,
        cause = process::interrupted() => Err(cause),
    }
}
