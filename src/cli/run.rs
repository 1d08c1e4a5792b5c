//! Arguments of `run`.

use clap::{Args, ValueEnum};

use super::PathArgs;
use crate::dialect::System;
use crate::settings::Flags;

/// Flag of a process that has done the privileged step already.
pub const PREPARED: &str = "--prepared";

/// Arguments of `run`.
#[derive(Debug, Default, Args)]
pub struct RunArgs {
    /// What to run, as another system's own command says it: `run worker` is LyftData's
    #[arg(value_enum, value_name = "WHAT", hide_possible_values = true)]
    what: Option<What>,
    #[command(flatten)]
    paths: PathArgs,
    /// End when a fresh credential cannot be written, where the system's own agent would go on with
    /// it in memory (ravenxcope)
    #[arg(long)]
    strict: bool,
    /// This process has done the privileged step already, and executed itself anew
    #[arg(long = "prepared", hide = true)]
    pub is_prepared: bool,
    /// After the privileged step, go on as this user: for service managers that start both as one
    /// command, such as OpenRC
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
}

/// Arguments of `prepare`.
#[derive(Debug, Default, Args)]
pub struct PrepareArgs {
    #[command(flatten)]
    paths: PathArgs,
    /// Fail when a fresh credential cannot be written (ravenxcope)
    #[arg(long)]
    strict: bool,
}

impl PrepareArgs {
    /// The settings among the arguments.
    #[must_use]
    pub fn flags(&self) -> Flags {
        Flags {
            strict: self.strict,
            ..self.paths.flags()
        }
    }
}

/// What another system's own command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// A worker of LyftData's
    Worker,
}

impl What {
    fn system(self) -> System {
        match self {
            Self::Worker => System::Lyftdata,
        }
    }
}

impl RunArgs {
    /// The settings among the arguments.
    #[must_use]
    pub fn flags(&self) -> Flags {
        let flags = self.paths.flags();
        Flags {
            dialect: flags.dialect.or(self.what.map(What::system)),
            strict: self.strict,
            ..flags
        }
    }
}
