//! The parts of `cargo xtask` that the project's other programs use too: errors, child processes, and
//! the tools that a step needs.

#![allow(
    clippy::must_use_candidate,
    reason = "a command that is not used shows at once"
)]

pub mod error;
pub mod machine;
pub mod process;
pub mod tools;

use std::process::ExitCode;
use std::time::Duration;

use error::{Result, Stop};

/// Runs `work` to its end, or to Ctrl-C or SIGTERM, which end its children and remove its scratch
/// folders. Prints the error, and returns the exit code.
pub fn finish(work: impl Future<Output = Result<()>>) -> ExitCode {
    // Starting a process blocks its thread until the process runs, and the load test starts hundreds
    // in a second.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(8)
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(async {
                tokio::select! {
                    done = work => done,
                    cause = process::interrupted() => Err(cause),
                }
            });
            // Tasks end their children; a thread that waits for Enter must not hold us up.
            runtime.shutdown_timeout(Duration::from_millis(500));
            outcome
        }
        Err(cause) => Err(Stop::failed(format!("no async runtime: {cause}"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            stop.print();
            ExitCode::FAILURE
        }
    }
}
