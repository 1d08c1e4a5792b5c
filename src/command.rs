//! A file a subcommand: `run(args, &Environment) -> Result<Report>`. Nothing here prints.

mod completions;
mod doctor;
mod enrol;
mod facts;
mod install;
mod man;
mod prepare;
mod rotate;
mod run;
mod status;
mod unenrol;
mod uninstall;

use serde_json::Value;

use crate::cli::{Cli, Command, OutputFormat};
use crate::limits;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::escape;
use agent_core::redact::redact;

/// What a command has to say.
#[derive(Debug)]
pub struct Report {
    /// For people.
    pub text: String,
    /// For programs; its keys are part of the contract.
    pub json: Value,
    /// Exit code: a report can be complete and still say no.
    pub exit_code: u8,
    /// What is said beside the report: all was done, and something remains.
    pub error: Option<Error>,
}

impl Report {
    /// A report of something that went well.
    #[must_use]
    pub fn new(text: String, json: Value) -> Self {
        Self {
            text,
            json,
            exit_code: 0,
            error: None,
        }
    }

    /// The same, with what remains to be done: its code is the command's.
    #[must_use]
    pub fn with_error(mut self, error: Option<Error>) -> Self {
        if let Some(error) = &error {
            self.exit_code = error.exit_code();
            if let (Value::Object(report), Value::Object(told)) =
                (&mut self.json, error_json(error))
            {
                report.extend(told);
            }
        }
        self.error = error;
        self
    }

    /// What goes to standard output.
    #[must_use]
    pub fn render(&self, format: OutputFormat) -> String {
        match format {
            OutputFormat::Text => escape::lines(&self.text).into_owned(),
            OutputFormat::Json => format!("{}\n", escape::json(&self.json.to_string())),
        }
    }
}

/// Runs the command that was asked for, on one thread.
///
/// # Errors
/// What the command ends with.
pub fn run_blocking(cli: &Cli, environment: &Environment) -> Result<Report> {
    limits::raise()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(ErrorId::Internal, error.to_string()).about("the runtime"))?;
    let result = runtime.block_on(run(cli, environment));
    // A name server or a pipe that never answers does not hold up the end.
    runtime.shutdown_background();
    result
}

/// Runs the command that was asked for.
///
/// # Errors
/// What the command ends with.
pub async fn run(cli: &Cli, environment: &Environment) -> Result<Report> {
    match &cli.command {
        Command::Enrol(args) => enrol::run(args, environment).await,
        Command::Doctor(args) => doctor::run(args, environment).await,
        Command::RotateToken(args) => rotate::token(args, environment).await,
        Command::RotateKey(args) => rotate::key(args, environment).await,
        Command::Unenrol(args) => unenrol::run(args, environment).await,
        Command::Run(args) => run::run(args, environment).await,
        Command::Prepare(args) => prepare::run(args, environment).await,
        Command::Status(args) => status::run(args, environment),
        Command::Facts(args) => facts::run(args, environment).await,
        Command::Completions(args) => Ok(completions::run(args)),
        Command::Man(args) => man::run(args),
        Command::Install(args) => install::run(args, environment).await,
        Command::Uninstall(args) => uninstall::run(args, environment).await,
    }
}

/// The error as the JSON object of `--output json`.
#[must_use]
pub fn error_json(error: &Error) -> Value {
    let mut json = serde_json::json!({
        "error": {
            "id": error.id().code(),
            "what": redact(&error.what()),
            "cause": redact(error.cause()),
            "hint": redact(error.next_step()),
            "exit_code": error.exit_code(),
        }
    });
    if let Some(stays) = error.stays() {
        json["kept"] = stays.clone();
    }
    json
}
