//! The arguments of `enrol`, which `doctor` and `install` take too.

use clap::Args;

use super::PathArgs;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::flags::Flags;

/// The arguments of `enrol`.
#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an independent switch of the command line"
)]
pub struct EnrolArgs {
    /// URL of the hub [default: https://api.monsys.ai]
    #[arg(long, value_name = "URL")]
    hub_url: Option<String>,
    /// File that contains the token; `-` is standard input
    #[arg(long, value_name = "PATH")]
    token_file: Option<String>,
    /// Command that prints the token
    #[arg(long, value_name = "CMD")]
    token_command: Option<String>,
    /// Refused: a secret on a command line is readable by every user of the host
    #[arg(long, value_name = "VALUE", hide = true, num_args = 0..=1, default_missing_value = "")]
    token: Option<String>,
    /// Tag of this host; can be repeated
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Tags of this host, separated by commas
    #[arg(long, value_name = "A,B")]
    tags: Option<String>,
    /// Role of this host; overrides the token's default role
    #[arg(long)]
    role: Option<String>,
    /// PEM file of the hub's CA; no other CA is trusted then
    #[arg(long, value_name = "PATH")]
    ca_file: Option<String>,
    /// SPKI pin of the hub's CA
    #[arg(long, value_name = "sha256:HEX")]
    ca_pin: Option<String>,
    /// Allow plain HTTP to a hub that is not on this host
    #[arg(long)]
    allow_http: bool,
    /// Time limit of the command, retries included [default: 5m]
    #[arg(long, value_name = "DURATION")]
    wait: Option<String>,
    /// Wait a random time of at most DURATION before the first attempt [default: 0s]
    #[arg(long, value_name = "DURATION")]
    splay: Option<String>,
    /// Remove the token from cloud-init's files after the enrolment: yes, no, or auto (yes when
    /// cloud-init runs this command) [default: auto]
    #[arg(long, value_name = "WHEN")]
    scrub_cloud_init: Option<String>,
    /// Enrol again even if enrolled; the host stays the same agent
    #[arg(long)]
    pub force: bool,
    /// Do not ask the hub whether it still knows an enrolled host
    #[arg(long, conflicts_with_all = ["force", "defer"])]
    offline: bool,
    /// Print what would be sent and changed; use no network and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// For golden images: prepare the enrolment and send nothing; `enrol` at the first boot completes it
    #[arg(long, conflicts_with_all = ["force", "dry_run"])]
    pub defer: bool,
    #[command(flatten)]
    paths: PathArgs,
}

impl EnrolArgs {
    /// Refuses `--token`, with any value or none.
    ///
    /// # Errors
    /// [`ErrorId::TokenOnCommandLine`].
    pub fn refuse_token(&self) -> Result<()> {
        if self.token.is_none() {
            return Ok(());
        }
        Err(Error::new(
            ErrorId::TokenOnCommandLine,
            "every user of this host can read a process's arguments (ps, /proc)",
        )
        .about("--token"))
    }

    /// Returns the settings among the arguments.
    #[must_use]
    pub fn flags(&self) -> Flags {
        Flags {
            hub_url: self.hub_url.clone(),
            token_file: self.token_file.clone(),
            token_command: self.token_command.clone(),
            tag: self.tag.clone(),
            tags: self.tags.clone(),
            role: self.role.clone(),
            ca_file: self.ca_file.clone(),
            ca_pin: self.ca_pin.clone(),
            allow_http: self.allow_http,
            wait: self.wait.clone(),
            splay: self.splay.clone(),
            offline: self.offline,
            scrub_cloud_init: self.scrub_cloud_init.clone(),
            ..self.paths.flags()
        }
    }
}
