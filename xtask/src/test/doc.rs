//! The crates' documentation builds without a warning: no dead link, no bad example.

use super::Count;
use crate::error::Result;
use crate::{process, tools};

pub(crate) async fn run() -> Result<Count> {
    let what = [
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
        "--locked",
    ];
    process::run(tools::cargo(&what).env("RUSTDOCFLAGS", "-D warnings")).await?;
    Ok(Count::ONE)
}
