//! The layout of the code.

use super::Count;
use crate::error::Result;
use crate::{process, tools};

pub(crate) async fn run() -> Result<Count> {
    process::run(&mut tools::cargo(&["fmt", "--all", "--check"])).await?;
    Ok(Count::ONE)
}
