//! The arguments of `run` and `prepare`.

use agent_core::flags::Flags;
use clap::Args;

use super::PathArgs;
use super::dialect::{ServiceFlagArgs, of_run_argument, run_arguments};

/// The flag of a process that has done the privileged step already.
pub const PREPARED: &str = "--prepared";

/// The arguments of `run`.
#[derive(Debug, Default, Args)]
pub struct RunArgs {
    /// Argument from a dialect's own documentation, such as `run worker` of LyftData
    #[arg(value_parser = run_arguments(), value_name = "WHAT", hide_possible_values = true)]
    what: Option<String>,
    #[command(flatten)]
    paths: PathArgs,
    #[command(flatten)]
    own: ServiceFlagArgs,
    /// Skip the privileged step, which this process did before it executed itself again
    #[arg(long = "prepared", hide = true)]
    pub is_prepared: bool,
    /// On a host that is not enrolled and has no token source, end with 86, which a service manager does
    /// not count as a failure
    #[arg(long)]
    pub if_enrolled: bool,
    /// Do the privileged step first, then run as this user; for service managers that start both as
    /// one command, such as OpenRC
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
}

/// The arguments of `prepare`.
#[derive(Debug, Default, Args)]
pub struct PrepareArgs {
    #[command(flatten)]
    paths: PathArgs,
    #[command(flatten)]
    own: ServiceFlagArgs,
}

impl PrepareArgs {
    /// Returns the settings among the arguments.
    #[must_use]
    pub fn flags(&self) -> Flags {
        self.own.added_to(self.paths.flags())
    }
}

impl RunArgs {
    /// Returns the settings among the arguments.
    #[must_use]
    pub fn flags(&self) -> Flags {
        let flags = self.own.added_to(self.paths.flags());
        let dialect_of_argument = || of_run_argument(self.what.as_deref()?);
        Flags {
            dialect: flags.dialect.clone().or_else(dialect_of_argument),
            ..flags
        }
    }
}
