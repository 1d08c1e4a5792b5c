//! The arguments of `install` and `uninstall`.

use clap::Args;

use super::{EnrolArgs, PathArgs};

/// The arguments of `install`.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// The arguments of the enrolment.
    #[command(flatten)]
    pub enrol: EnrolArgs,
    /// Install everything, but do not enrol
    #[arg(long, conflicts_with_all = ["force", "defer"])]
    pub no_enrol: bool,
    /// Do not start the service now; it starts at the next boot
    #[arg(long)]
    pub no_start: bool,
    /// Unenrol this host when it is powered off
    ///
    /// For hosts that never come back, such as those of an autoscaling group. A reboot, or a restart
    /// of the service, does not unenrol. A host that is powered on again has to enrol again.
    #[arg(long)]
    pub ephemeral: bool,
}

/// The arguments of `uninstall`.
#[derive(Debug, Args)]
pub struct UninstallArgs {
    /// Also remove agent.toml, the host's key and its state
    #[arg(long)]
    pub purge: bool,
    /// The paths of the agent's files.
    #[command(flatten)]
    pub paths: PathArgs,
}
