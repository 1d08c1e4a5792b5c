//! The command line. Its doc comments are the help.
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
pub use lifecycle::{RotateKeyArgs, RotateTokenArgs, UnenrolArgs};
pub use man_completions::{CompletionsArgs, ManArgs, Shell};
pub use run::{PREPARED, PrepareArgs, RunArgs};

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
    let cause = first.trim_start_matches("error: ");
    if clean != text {
        let error = Error::new(ErrorId::TokenOnCommandLine, cause);
        return Stop::Refuse {
            text: format!("error: {error}\n"),
            error,
            output,
        };
    }
    let cause = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "no command was given",
        _ => cause,
    };
    Stop::Refuse {
        error: Error::new(ErrorId::BadArguments, cause),
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
    Run(RunArgs),
    /// The privileged step before the service: finish what needs root
    ///
    /// Service managers run it as root before `run`, which writes nothing but /run/monsys: enrols a
    /// prepared host, ends what was interrupted, and takes over the files of an older release. Exits
    /// with 0 whatever comes of it: `run` ends with the failure.
    Prepare(PrepareArgs),
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
    /// Takes the same options as enrol. Each failed check has a hint. Exits with the code that
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

/// Where the agent's files are.
#[derive(Debug, Default, Args)]
pub struct PathArgs {
    #[command(flatten)]
    dialect: DialectArgs,
    /// Path of agent.toml [default: /etc/monsys/agent.toml]
    #[arg(long, value_name = "PATH")]
    pub config: Option<String>,
    /// Directory of key and state [default: /var/lib/monsys]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<String>,
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

impl PathArgs {
    /// The settings among the arguments.
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
