//! Arguments of the commands for the life after the enrolment: rotations, leaving.

use clap::Args;

use super::PathArgs;
use agent_core::flags::Flags;

/// Arguments of `rotate-token`.
#[derive(Debug, Args)]
pub struct RotateTokenArgs {
    /// File that holds the new token; `-` is standard input
    #[arg(long, value_name = "PATH")]
    token_file: Option<String>,
    /// Command that prints the new token
    #[arg(long, value_name = "CMD")]
    token_command: Option<String>,
    #[command(flatten)]
    hub: HubArgs,
}

/// Arguments of `rotate-key`.
#[derive(Debug, Args)]
pub struct RotateKeyArgs {
    #[command(flatten)]
    hub: HubArgs,
}

/// Arguments of `unenrol`.
#[derive(Debug, Args)]
pub struct UnenrolArgs {
    /// Remove the credential from this host whatever the hub says
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    hub: HubArgs,
}

/// For commands that talk to the hub with the host's own credential.
#[derive(Debug, Args)]
struct HubArgs {
    /// How long it may take over all, retries included [default: 5m]
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
    /// The settings among the arguments.
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
    /// The settings among the arguments.
    #[must_use]
    pub fn flags(&self) -> Flags {
        self.hub.flags()
    }
}

impl UnenrolArgs {
    /// The settings among the arguments.
    #[must_use]
    pub fn flags(&self) -> Flags {
        self.hub.flags()
    }
}
