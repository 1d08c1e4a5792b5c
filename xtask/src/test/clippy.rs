//! Every lint of the workspace, as an error.

use super::Count;
use crate::error::Result;
use crate::{process, tools};

pub(crate) async fn run() -> Result<Count> {
    let what = [
        "clippy",
        "--workspace",
        "--all-targets",
        // Those that `cargo test` leaves out, and so does the line above.
        "--test=crash",
        "--test=networks",
        "--test=hosts",
        "--test=installer",
        "--locked",
        "--",
        "-D",
        "warnings",
    ];
    process::run(&mut tools::cargo(&what)).await?;
    Ok(Count::ONE)
}
