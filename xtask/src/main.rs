//! `cargo xtask`: the project's own commands.
//!
//! [`mod@suites`] is the list of suites that `cargo xtask test` runs, [`dist`] makes a release. The demo
//! and the load test are programs of `scenarios/`, and the generated pages are written by the tests that
//! compare them with the code, so that this program depends on no crate of the agent.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "talking to a person is what these commands are for"
)]

mod dist;
mod suites;

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use xtask::error::{Result, Stop};
use xtask::{process, tools};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own commands")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Enrol this very host into a hub on loopback, and check the result
    #[command(disable_help_flag = true)]
    Demo(Passed),
    /// Run every check of the project, or the suites that are named
    Test(suites::Options),
    /// Enrol many hosts at once while replies are lost and hosts are killed
    #[command(disable_help_flag = true)]
    Load(Passed),
    /// Make all files of a release, for both architectures, into target/dist/
    Dist(dist::Options),
    /// Write the pages that are generated from the code
    Docs,
    /// Write the templates under cloud-init/ from the Terraform module; needs terraform
    CloudInit,
}

/// Arguments of another program.
#[derive(Args)]
struct Passed {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

fn main() -> ExitCode {
    xtask::finish(run(Cli::parse().command))
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Demo(passed) => become_program("demo", &passed).await,
        Command::Load(passed) => become_program("load", &passed).await,
        Command::Test(options) => suites::run(&options).await,
        Command::Dist(options) => dist::run(&options).await.map(drop),
        Command::Docs => {
            write_pages("it", "the_generated_pages").await?;
            write_pages("terraform", "the_page").await
        }
        Command::CloudInit => write_pages("cloud_init", "the_templates").await,
    }
}

/// Builds a program of `scenarios/`, and continues as that program.
async fn become_program(name: &'static str, passed: &Passed) -> Result<()> {
    let [program] = tools::build([name], &[]).await?;
    let error = std::process::Command::new(&program)
        .args(&passed.arguments)
        .exec();
    Err(Stop::failed(format!("{}: {error}", program.display())))
}

/// Runs a test that compares pages with the code, and lets it write them.
async fn write_pages(target: &str, test: &str) -> Result<()> {
    let mut cargo = tools::cargo(&["test", "--quiet", "--locked", "--workspace"]);
    cargo
        .args([
            "--test",
            target,
            "--",
            "--nocapture",
            "--include-ignored",
            test,
        ])
        .env("MONSYS_WRITE_PAGES", "1");
    process::run(&mut cargo).await
}
