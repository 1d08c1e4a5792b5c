//! The command line. Its docstrings are the text of `--help`.
#![allow(
    clippy::doc_markdown,
    rustdoc::bare_urls,
    reason = "help is plain text, not Markdown"
)]

mod dialect;
mod enrol;
mod install;
mod lifecycle;
mod man_completions;
mod named;
mod run;
pub mod secret_argument;

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use agent_core::error::{Error, ErrorId};
use agent_core::flags::Flags;
use agent_core::redact::redact;
pub use dialect::DialectArgs;
pub use enrol::EnrolArgs;
pub use install::{InstallArgs, UninstallArgs};
pub use lifecycle::{RotateKeyArgs, RotateTokenArgs, StatusArgs, UnenrolArgs};
pub use man_completions::{CompletionsArgs, ManArgs, Shell};
pub use run::{PREPARED, PrepareArgs, RunArgs};

/// Enrols this host into a monsys hub, and sends its heartbeats.
///
/// Give the token in the environment variable MONSYS_TOKEN, or by --token-file or --token-command.
/// A token among the arguments is refused, because every user of the host can read them.
#[derive(Debug, Parser)]
#[command(
    name = "monsys-agent",
    version,
    max_term_width = 100,
    after_help = "First steps:\n  MONSYS_TOKEN=enrl_… monsys-agent enrol --hub-url https://hub.example.com\n  monsys-agent status"
)]
pub struct Cli {
    /// The options that every command takes.
    #[command(flatten)]
    pub global: Global,
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The heading of the options that every command takes.
const GLOBAL: &str = "Global options";

/// The reason why the program ends without running a command.
pub enum EarlyExit {
    /// The text of `--help` or `--version`, for standard output.
    Help(String),
    /// A command line that is not valid.
    BadArguments {
        /// The message for people, for standard error.
        text: String,
        /// The error for programs.
        error: Error,
        /// The requested format of the result.
        output: OutputFormat,
    },
}

impl Cli {
    /// Parses the arguments. No message repeats an argument that looks like a token.
    ///
    /// # Errors
    /// [`EarlyExit`].
    pub fn parse_from(
        arguments: impl IntoIterator<Item = OsString>,
    ) -> std::result::Result<Self, EarlyExit> {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        let mut cli = match named::parse(&arguments) {
            Some(cli) => cli,
            None => {
                Self::try_parse_from(&arguments).map_err(|error| early_exit(&error, &arguments))?
            }
        };
        if let Ok(root) = std::path::absolute(&cli.global.root) {
            cli.global.root = root;
        }
        Ok(cli)
    }
}

fn early_exit(error: &clap::Error, arguments: &[OsString]) -> EarlyExit {
    let text = error.render().to_string();
    if !error.use_stderr() {
        return EarlyExit::Help(text);
    }
    let wants_json = arguments.iter().any(|argument| argument == "--output=json")
        || arguments
            .windows(2)
            .any(|pair| pair[0] == "--output" && pair[1] == "json");
    let output = if wants_json {
        OutputFormat::Json
    } else {
        OutputFormat::Text
    };
    let redacted = redact(&text);
    let first = redacted.lines().next().unwrap_or_default();
    let cause = first.trim_start_matches("error: ");
    if redacted != text {
        let error = Error::new(ErrorId::TokenOnCommandLine, cause);
        return EarlyExit::BadArguments {
            text: format!("error: {error}\n"),
            error,
            output,
        };
    }
    let cause = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "no command was given",
        _ => cause,
    };
    EarlyExit::BadArguments {
        error: Error::new(ErrorId::BadArguments, cause),
        text,
        output,
    }
}

/// The options that every command takes.
#[derive(Debug, Args)]
pub struct Global {
    /// Use DIR as the host's `/`; all paths of the host are below it
    #[arg(
        long,
        global = true, help_heading = GLOBAL,
        value_name = "DIR",
        default_value = "/",
        hide_default_value = true
    )]
    pub root: std::path::PathBuf,
    /// Format of the result
    #[arg(
        long,
        global = true, help_heading = GLOBAL,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    pub output: OutputFormat,
    /// Log more; -vv logs everything
    #[arg(short, long, global = true, help_heading = GLOBAL, action = ArgAction::Count)]
    pub verbose: u8,
    /// Log less; -qq logs nothing, and only the final error is printed
    #[arg(short, long, global = true, help_heading = GLOBAL, action = ArgAction::Count)]
    pub quiet: u8,
    /// Format of the log on standard error
    #[arg(
        long,
        global = true, help_heading = GLOBAL,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    pub log_format: LogFormat,
}

/// The format of the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Plain text
    #[default]
    Text,
    /// One JSON object
    Json,
}

/// The format of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Plain text
    #[default]
    Text,
    /// One JSON object per line
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Enrol this host: exchange a token for the host's own credential
    ///
    /// Writes the credential to agent.toml, and starts no service. Safe to repeat: an enrolled host
    /// sends nothing. After an interruption, the next run completes the enrolment without spending a
    /// second use of the token.
    #[command(visible_alias = "enroll")]
    Enrol(Box<EnrolArgs>),
    /// Run as the service: send signed heartbeats until SIGTERM
    ///
    /// Enrols the host first if it is not enrolled, and if agent.toml, the environment or a systemd
    /// credential names a source of the token. Without such a source, exits with 78. Reloads the
    /// configuration on SIGHUP, or when agent.toml changes.
    Run(RunArgs),
    /// Do the work that needs root, before the service starts
    ///
    /// A service manager runs this privileged step as root before `run`, which writes only to
    /// /run/monsys. It enrols a prepared host, completes interrupted work, and takes over the files of
    /// an older release. Exits with 0 even if the step fails: `run` then exits with the failure.
    Prepare(PrepareArgs),
    /// Show whether this host is enrolled, and whether its heartbeats reach the hub
    ///
    /// Exits with 78 when the host is not enrolled, and with 75 when heartbeats fail or are overdue, or
    /// the service was stopped. Sends nothing without --check-hub.
    Status(StatusArgs),
    /// Replace the per-agent token, after the hub has accepted the new one
    ///
    /// A running service uses the new token without a restart.
    RotateToken(RotateTokenArgs),
    /// Replace the signing key, after an operator has unpinned the old one
    ///
    /// The old key stays until the hub has pinned the new one. A running service uses the new key
    /// without a restart.
    RotateKey(RotateKeyArgs),
    /// Unenrol this host: notify the hub, then remove the credential from the host
    ///
    /// Safe to repeat. Other keys and the comments in agent.toml stay.
    #[command(visible_alias = "unenroll")]
    Unenrol(UnenrolArgs),
    /// Check everything that an enrolment needs, without spending a use of the token
    ///
    /// Takes the same options as enrol. Each failed check has a hint. Exits with the code that an
    /// enrolment would exit with.
    Doctor(Box<EnrolArgs>),
    /// Print the host metadata that an enrolment would send
    Facts(FactsArgs),
    /// Install the program and its service, enrol this host, and start the service
    ///
    /// Takes the same options as enrol. Safe to repeat: only what differs is changed. If the run fails
    /// before a hub has accepted the host, its changes are rolled back. --dry-run lists every change.
    Install(Box<InstallArgs>),
    /// Undo what `install` did, as its install record lists it
    ///
    /// agent.toml, the host's key and its state stay, unless --purge is given.
    Uninstall(UninstallArgs),
    /// Print a completion script for a shell
    ///
    /// To use it in the current shell only: . <(monsys-agent completions bash). Packages install the
    /// scripts.
    Completions(CompletionsArgs),
    /// Print the manual page, or write all pages to a folder
    ///
    /// To read the page: monsys-agent man | man -l -
    Man(ManArgs),
}

/// The paths of the agent's files.
#[derive(Debug, Default, Args)]
pub struct PathArgs {
    #[command(flatten)]
    dialect: DialectArgs,
    /// Path of agent.toml [default: /etc/monsys/agent.toml]
    #[arg(long, value_name = "PATH")]
    pub config: Option<String>,
    /// Directory of the key and the state [default: /var/lib/monsys]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<String>,
}

/// The arguments of `facts`.
#[derive(Debug, Args)]
pub struct FactsArgs {
    #[command(flatten)]
    paths: PathArgs,
    /// URL of the hub, to find the host's address on the way there [default: https://api.monsys.ai]
    #[arg(long, value_name = "URL")]
    hub_url: Option<String>,
    /// Allow plain HTTP to a hub that is not on this host
    #[arg(long)]
    allow_http: bool,
}

impl PathArgs {
    /// Returns the settings among the arguments.
    #[must_use]
    pub fn flags(&self) -> Flags {
        Flags {
            config: self.config.clone(),
            state_dir: self.state_dir.clone(),
            ..self.dialect.flags()
        }
    }
}

impl FactsArgs {
    /// Returns the settings among the arguments.
    #[must_use]
    pub fn flags(&self) -> Flags {
        Flags {
            hub_url: self.hub_url.clone(),
            allow_http: self.allow_http,
            ..self.paths.flags()
        }
    }
}
