//! Arguments of `run`.

use clap::Args;

use super::PathArgs;
use crate::settings::Flags;

/// Arguments of `run`.
#[derive(Debug, Default, Args)]
pub struct RunArgs {
    #[command(flatten)]
    paths: PathArgs,
}

impl RunArgs {
    /// The settings among the arguments.
    #[must_use]
    pub fn flags(&self) -> Flags {
        self.paths.flags()
    }
}
