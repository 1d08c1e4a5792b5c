//! The demo is a test of the whole.

use super::Count;
use crate::demo;
use crate::error::Result;

pub(crate) async fn run() -> Result<Count> {
    demo::run(false).await
}
