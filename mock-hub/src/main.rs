//! The hub as a program: parse, run, tell.

use clap::Parser as _;
use mock_hub::cli::Cli;
use std::io::Write as _;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false)
        .init();
    match cli.run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            let _ = writeln!(std::io::stderr(), "mock-hub: {cause}");
            ExitCode::FAILURE
        }
    }
}
