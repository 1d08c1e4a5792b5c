//! Arguments of `enrol`, which `doctor` and `install` take too.

use clap::Args;

use super::PathArgs;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::flags::Flags;

/// Arguments of `enrol`.
#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches, as the user gives them"
)]
pub struct EnrolArgs {
    /// The hub [default: https://api.monsys.ai]
    #[arg(long, value_name = "URL")]
    hub_url: Option<String>,
    /// File that holds the token; `-` is standard input
    #[arg(long, value_name = "PATH")]
    token_file: Option<String>,
    /// Command that prints the token
    #[arg(long, value_name = "CMD")]
    token_command: Option<String>,
    /// Refused: a secret on a command line is readable by every user of the host
    #[arg(long, value_name = "VALUE", hide = true, num_args = 0..=1, default_missing_value = "")]
    token: Option<String>,
    /// A tag of this host; can be repeated
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Tags of this host, comma separated
    #[arg(long, value_name = "A,B")]
    tags: Option<String>,
    /// Role of this host; wins over the token's default role
    #[arg(long)]
    role: Option<String>,
    /// PEM file of the hub's CA: then the only one trusted
    #[arg(long, value_name = "PATH")]
    ca_file: Option<String>,
    /// SPKI pin of the hub's CA
    #[arg(long, value_name = "sha256:HEX")]
    ca_pin: Option<String>,
    /// Allow plain http to a hub that is not on this host
    #[arg(long)]
    allow_http: bool,
    /// How long it may take over all, retries included [default: 5m]
    #[arg(long, value_name = "DURATION")]
    wait: Option<String>,
    /// Wait a random time of at most DURATION before the first try [default: 0s]
    #[arg(long, value_name = "DURATION")]
    splay: Option<String>,
    /// Take the token out of cloud-init's files once enrolled: yes, no, or auto, which is yes when
    /// cloud-init runs this [default: auto]
    #[arg(long, value_name = "WHEN")]
    scrub_cloud_init: Option<String>,
    /// Enrol again although enrolled; the same host stays the same agent
    #[arg(long)]
    pub force: bool,
    /// Show what would be sent and written, without network and without changing anything
    #[arg(long)]
    pub dry_run: bool,
    /// Golden images: prepare all but spend nothing, so that `enrol` at the first boot finishes it
    #[arg(long, conflicts_with_all = ["force", "dry_run"])]
    pub defer: bool,
    #[command(flatten)]
    paths: PathArgs,
}

impl EnrolArgs {
    /// Refuses `--token`, whatever followed it.
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

    /// The settings among the arguments.
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
            scrub_cloud_init: self.scrub_cloud_init.clone(),
            ..self.paths.flags()
        }
    }
}
