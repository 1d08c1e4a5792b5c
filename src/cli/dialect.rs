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
    /// LyftData: unique name of the worker
    #[arg(long, value_name = "NAME", help_heading = OTHERS)]
    worker_name: Option<String>,
    /// LyftData: where the worker's id and API key are put [default: /var/lib/lyftdata-worker]
    #[arg(long, value_name = "DIR", help_heading = OTHERS)]
    worker_jobs_dir: Option<String>,
}

/// Heading of what only one of the systems takes.
const OTHERS: &str = "Options of other systems than monsys";

impl DialectArgs {
    /// The settings among the arguments.
    #[must_use]
    pub fn flags(&self) -> Flags {
        Flags {
            dialect: self.dialect,
            worker_name: self.worker_name.clone(),
            worker_jobs_dir: self.worker_jobs_dir.clone(),
            ..Flags::default()
        }
    }
}
