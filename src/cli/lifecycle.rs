//! The arguments of the commands for an enrolled host: `rotate-token`, `rotate-key` and `unenrol`.

use clap::Args;

use super::PathArgs;
use agent_core::flags::Flags;

/// The arguments of `rotate-token`.
#[derive(Debug, Args)]
pub struct RotateTokenArgs {
    /// File that contains the new token; `-` is standard input
    #[arg(long, value_name = "PATH")]
    token_file: Option<String>,
    /// Command that prints the new token
    #[arg(long, value_name = "CMD")]
    token_command: Option<String>,
    #[command(flatten)]
    hub: HubArgs,
}

/// The arguments of `rotate-key`.
#[derive(Debug, Args)]
pub struct RotateKeyArgs {
    #[command(flatten)]
    hub: HubArgs,
}

/// The arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Ask the hub, by one heartbeat, whether it accepts this host's own credential
    #[arg(long)]
    pub check_hub: bool,
    #[command(flatten)]
    pub(crate) paths: PathArgs,
}

/// The arguments of `unenrol`.
#[derive(Debug, Args)]
pub struct UnenrolArgs {
    /// Remove the credential from this host, even if the hub refuses or does not answer
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    hub: HubArgs,
}

/// The arguments of a command that authenticates with the host's own credential.
#[derive(Debug, Args)]
struct HubArgs {
    /// Time limit of the command, retries included [default: 5m]
    #[arg(long, value_name = "DURATION")]
    wait: Option<String>,
    #[command(flatten)]
    paths: PathArgs,
}

impl HubArgs {
    fn flags(&self) -> Flags {
        Flags {
            wait: self.wait.clone(),
            ..self.paths.flags()
        }
    }
}

impl RotateTokenArgs {
    /// Returns the settings among the arguments.
    #[must_use]
    pub fn flags(&self) -> Flags {
        Flags {
            token_file: self.token_file.clone(),
            token_command: self.token_command.clone(),
            ..self.hub.flags()
        }
    }
}

impl RotateKeyArgs {
    /// Returns the settings among the arguments.
    #[must_use]
    pub fn flags(&self) -> Flags {
        self.hub.flags()
    }
}

impl UnenrolArgs {
    /// Returns the settings among the arguments.
    #[must_use]
    pub fn flags(&self) -> Flags {
        self.hub.flags()
    }
}
