//! The command line. Its doc comments are the help.
#![allow(
    clippy::doc_markdown,
    rustdoc::bare_urls,
    reason = "help is plain text, not Markdown"
)]

mod install;

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::error::{Error, ErrorId, Result};
use crate::redact::redact;
use crate::settings::Flags;
pub use install::{InstallArgs, UninstallArgs};

/// Brings this host into a monsys fleet.
///
/// The token is given as MONSYS_TOKEN in the environment, or by --token-file or --token-command;
/// never as an argument.
#[derive(Debug, Parser)]
#[command(
    name = "monsys-agent",
    version,
    max_term_width = 100,
    after_help = "First steps:\n  MONSYS_TOKEN=enrl_… monsys-agent enrol --hub-url https://hub.example.com\n  monsys-agent status"
)]
pub struct Cli {
    /// Options that every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Heading of the options that every command takes.
const GLOBAL: &str = "Global options";

/// Why there is no command to run.
pub enum Stop {
    /// Help or version was asked for: this goes to standard output.
    Show(String),
    /// The arguments were not understood.
    Refuse {
        /// What to say to people.
        text: String,
        /// The same for programs.
        error: Error,
        /// How the result was to be printed, as far as that can be told.
        output: OutputFormat,
    },
}

impl Cli {
    /// Parses the arguments, and never repeats one that looks like a token.
    ///
    /// # Errors
    /// [`Stop`].
    pub fn parse_from(
        arguments: impl IntoIterator<Item = OsString>,
    ) -> std::result::Result<Self, Stop> {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        let mut cli = Self::try_parse_from(&arguments).map_err(|error| stop(&error, &arguments))?;
        if let Ok(root) = std::path::absolute(&cli.global.root) {
            cli.global.root = root;
        }
        Ok(cli)
    }
}

fn stop(error: &clap::Error, arguments: &[OsString]) -> Stop {
    let text = error.render().to_string();
    if !error.use_stderr() {
        return Stop::Show(text);
    }
    let asks_json = arguments.iter().any(|argument| argument == "--output=json")
        || arguments
            .windows(2)
            .any(|pair| pair[0] == "--output" && pair[1] == "json");
    let output = if asks_json {
        OutputFormat::Json
    } else {
        OutputFormat::Text
    };
    let clean = redact(&text);
    let first = clean.lines().next().unwrap_or_default();
    let why = first.trim_start_matches("error: ");
    if clean != text {
        let error = Error::new(ErrorId::TokenOnCommandLine, why);
        return Stop::Refuse {
            text: format!("error: {error}\n"),
            error,
            output,
        };
    }
    let why = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "no command was given",
        _ => why,
    };
    Stop::Refuse {
        error: Error::new(ErrorId::BadArguments, why),
        text,
        output,
    }
}

/// Options that every command takes.
#[derive(Debug, Args)]
pub struct Global {
    /// Treat DIR as the host's `/`: every path of the host is below it
    #[arg(
        long,
        global = true, help_heading = GLOBAL,
        value_name = "DIR",
        default_value = "/",
        hide_default_value = true
    )]
    pub root: std::path::PathBuf,
    /// How the result is printed
    #[arg(
        long,
        global = true, help_heading = GLOBAL,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    pub output: OutputFormat,
    /// Say more; twice for everything
    #[arg(short, long, global = true, help_heading = GLOBAL, action = ArgAction::Count)]
    pub verbose: u8,
    /// Say less; twice for nothing but the error
    #[arg(short, long, global = true, help_heading = GLOBAL, action = ArgAction::Count)]
    pub quiet: u8,
    /// How the log on standard error is written
    #[arg(
        long,
        global = true, help_heading = GLOBAL,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    pub log_format: LogFormat,
}

/// How the result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object
    Json,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Enrol this host: a secret in, agent.toml out
    ///
    /// Safe to repeat: an enrolled host says so and sends nothing, and an interrupted run is
    /// ended by the next one without spending a second use. Starts nothing.
    #[command(visible_alias = "enroll")]
    Enrol(Box<EnrolArgs>),
    /// The service: send signed heartbeats until SIGTERM
    ///
    /// A host that is not enrolled yet enrols first, if agent.toml, the environment or a systemd
    /// credential says where a token is to be had; else it exits with 78. SIGHUP, or a change of
    /// agent.toml, makes it read its configuration again.
    Run(PathArgs),
    /// Show whether this host is enrolled, as what, and whether the hub hears from it
    ///
    /// Exits with 78 when it is not enrolled, and with 75 when the service's heartbeats fail or are
    /// overdue. Sends nothing.
    Status(PathArgs),
    /// Take a new per-agent token: prove it against the hub, then replace the old one
    ///
    /// The running service takes it up by itself.
    RotateToken(RotateTokenArgs),
    /// Make a new signing key, once an operator has unpinned the old one
    ///
    /// The old key stays until the hub has the new one pinned. The running service takes the new one
    /// up by itself.
    RotateKey(RotateKeyArgs),
    /// Leave: tell the hub, then remove the credential from this host
    ///
    /// Safe to repeat. Other keys and comments of agent.toml stay.
    #[command(visible_alias = "unenroll")]
    Unenrol(UnenrolArgs),
    /// Check all that an enrolment needs, without spending a use
    ///
    /// Takes the same options as enrol. Each failed check names its mend. Exits with the code that
    /// an enrolment would end with.
    Doctor(Box<EnrolArgs>),
    /// Print the host metadata that an enrolment would send
    Facts(FactsArgs),
    /// Put the program and its service in place, enrol this host, and start the service
    ///
    /// Takes the same options as enrol. Safe to repeat: what is in place is left alone. A failure
    /// takes back what the run had done. --dry-run shows every change.
    Install(Box<InstallArgs>),
    /// Take back what `install` did, by its receipt
    ///
    /// agent.toml, the host's key and its state stay unless --purge is given.
    Uninstall(UninstallArgs),
    /// Print a completion script for a shell
    ///
    /// For this shell alone: . <(monsys-agent completions bash). Packages install them.
    Completions(CompletionsArgs),
    /// Print the manual page, or write all of them into a folder
    ///
    /// To read it at once: monsys-agent man | man -l -
    Man(ManArgs),
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell that reads it
    #[arg(value_enum)]
    pub shell: Shell,
}

/// The shells that there are completions for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// bash, with the package bash-completion
    Bash,
    /// fish
    Fish,
    /// zsh
    Zsh,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Folder to write a page a command into; it has to exist
    #[arg(value_name = "DIR")]
    pub folder: Option<std::path::PathBuf>,
}

/// Where the agent's files are.
#[derive(Debug, Default, Args)]
pub struct PathArgs {
    /// Path of agent.toml [default: /etc/monsys/agent.toml]
    #[arg(long, value_name = "PATH")]
    pub config: Option<String>,
    /// Directory of key and state [default: /var/lib/monsys]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<String>,
}

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

/// Arguments of `facts`.
#[derive(Debug, Args)]
pub struct FactsArgs {
    #[command(flatten)]
    paths: PathArgs,
    /// The hub, for the address that reaches it [default: https://api.monsys.ai]
    #[arg(long, value_name = "URL")]
    hub_url: Option<String>,
    /// Allow plain http to a hub that is not on this host
    #[arg(long)]
    allow_http: bool,
}

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
            config: self.paths.config.clone(),
            state_dir: self.paths.state_dir.clone(),
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
        }
    }
}

impl PathArgs {
    /// The settings among the arguments.
    #[must_use]
    pub fn flags(&self) -> Flags {
        Flags {
            config: self.config.clone(),
            state_dir: self.state_dir.clone(),
            ..Flags::default()
        }
    }
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

impl FactsArgs {
    /// The settings among the arguments.
    #[must_use]
    pub fn flags(&self) -> Flags {
        Flags {
            hub_url: self.hub_url.clone(),
            allow_http: self.allow_http,
            ..self.paths.flags()
        }
    }
}
