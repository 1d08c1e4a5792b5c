//! Arguments of `run`.

use agent_core::flags::Flags;
use clap::Args;

use super::PathArgs;
use super::dialect::{ServiceFlagArgs, of_run_argument, run_arguments};

/// Flag of a process that has done the privileged step already.
pub const PREPARED: &str = "--prepared";

/// Arguments of `run`.
#[derive(Debug, Default, Args)]
pub struct RunArgs {
    /// The argument that a dialect's own documentation has: `run worker` is LyftData's
    #[arg(value_parser = run_arguments(), value_name = "WHAT", hide_possible_values = true)]
    what: Option<String>,
    #[command(flatten)]
    paths: PathArgs,
    #[command(flatten)]
    own: ServiceFlagArgs,
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
    #[command(flatten)]
    own: ServiceFlagArgs,
}

impl PrepareArgs {
    /// The settings among the arguments.
    #[must_use]
    pub fn flags(&self) -> Flags {
        self.own.added_to(self.paths.flags())
    }
}

impl RunArgs {
    /// The settings among the arguments.
    #[must_use]
    pub fn flags(&self) -> Flags {
        let flags = self.own.added_to(self.paths.flags());
        let of_argument = || of_run_argument(self.what.as_deref()?);
        Flags {
            dialect: flags.dialect.clone().or_else(of_argument),
            ..flags
        }
    }
}
