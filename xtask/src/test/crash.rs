//! The agent, killed or refused at every system call of an enrolment.

use std::path::Path;

use super::{Count, rust};
use crate::error::Result;
use crate::tools;

const STRACE: &str = "/usr/bin/strace";

pub(crate) async fn run() -> Result<Count> {
    if !Path::new(STRACE).exists() {
        tools::apt(&["strace"]).await?;
    }
    let what = [
        "--package=monsys-agent",
        "--test=crash",
        "--",
        "--nocapture",
    ];
    rust::cargo_test(&what).await
}
