//! Arguments of `install` and `uninstall`.

use clap::Args;

use super::{EnrolArgs, PathArgs};

/// Arguments of `install`.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// What the enrolment takes.
    #[command(flatten)]
    pub enrol: EnrolArgs,
    /// Put all in place, but leave the enrolment out
    #[arg(long, conflicts_with_all = ["force", "defer"])]
    pub no_enrol: bool,
    /// Do not start the service now; it starts at the next boot
    #[arg(long)]
    pub no_start: bool,
    /// When this host is powered off, tell the hub that it leaves for good
    ///
    /// For hosts that never come back, as in an autoscaling group. A reboot or a restart of the
    /// service tells nothing. A host that is powered off and on again is not enrolled any more.
    #[arg(long)]
    pub ephemeral: bool,
}

/// Arguments of `uninstall`.
#[derive(Debug, Args)]
pub struct UninstallArgs {
    /// Also remove agent.toml, the host's key and its state
    #[arg(long)]
    pub purge: bool,
    /// Where the agent's files are.
    #[command(flatten)]
    pub paths: PathArgs,
}
