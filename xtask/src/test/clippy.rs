//! Every lint of the workspace, as an error.

use super::Count;
use crate::error::Result;
use crate::{process, tools};

pub(crate) async fn run() -> Result<Count> {
    let all = ["--workspace", "--all-targets"];
    // Those that `cargo test` leaves out, and so does the line above, whatever else it names.
    let by_name = [
        "--package=monsys-agent",
        "--test=crash",
        "--test=hosts",
        "--test=installer",
        "--test=networks",
    ];
    let mut count = Count::default();
    for what in [&all[..], &by_name] {
        let mut clippy = tools::cargo(&["clippy", "--locked"]);
        clippy.args(what).args(["--", "-D", "warnings"]);
        process::run(&mut clippy).await?;
        count.passed += 1;
    }
    Ok(count)
}
