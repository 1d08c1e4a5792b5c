//! Arguments that say which system a host enrols into, and what only one of them takes.

use clap::Args;

use crate::dialect::System;
use crate::settings::Flags;

/// Which system, and its own settings.
#[derive(Debug, Default, Args)]
pub struct DialectArgs {
    /// Which system the host enrols into [default: monsys]
    #[arg(long, value_enum, value_name = "SYSTEM")]
    dialect: Option<System>,
}

impl DialectArgs {
    /// The settings among the arguments.
    #[must_use]
    pub fn flags(&self) -> Flags {
        Flags {
            dialect: self.dialect,
            ..Flags::default()
        }
    }
}
