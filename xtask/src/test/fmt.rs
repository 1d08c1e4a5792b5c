//! The layout of the code.

use super::Count;
use crate::error::Result;
use crate::{process, tools};

pub(crate) async fn run() -> Result<Count> {
    // The fuzz targets are a workspace of their own.
    for workspace in ["Cargo.toml", "fuzz/Cargo.toml"] {
        let what = ["fmt", "--all", "--check", "--manifest-path", workspace];
        process::run(&mut tools::cargo(&what)).await?;
    }
    Ok(Count::ONE)
}
