//! The subcommands, each in a file: `run(args, &Environment) -> Result<Report>`. Nothing here prints.

mod completions;
mod doctor;
mod enrol;
mod facts;
mod first_boot;
mod first_process;
mod install;
mod man;
mod pages;
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
use agent_core::settings::misspelled;

/// The result of a command.
#[derive(Debug)]
pub struct Report {
    /// The text for people.
    pub text: String,
    /// The JSON for programs. Its keys are stable.
    pub json: Value,
    /// The exit code. A complete report can have one that is not 0, as `status` does.
    pub exit_code: u8,
    /// The error beside the report, if something remains to be done.
    pub error: Option<Error>,
}

impl Report {
    /// Returns the report of a success.
    #[must_use]
    pub fn new(text: String, json: Value) -> Self {
        Self {
            text,
            json,
            exit_code: 0,
            error: None,
        }
    }

    /// Adds an error, whose exit code becomes the report's.
    #[must_use]
    pub fn with_error(mut self, error: Option<Error>) -> Self {
        if let Some(error) = &error {
            self.exit_code = error.exit_code();
            if let (Value::Object(report), Value::Object(fields)) =
                (&mut self.json, error_json(error))
            {
                report.extend(fields);
            }
        }
        self.error = error;
        self
    }

    /// Returns the text for standard output.
    #[must_use]
    pub fn render(&self, format: OutputFormat) -> String {
        match format {
            OutputFormat::Text => escape::lines(&self.text).into_owned(),
            OutputFormat::Json => format!("{}\n", escape::json(&self.json.to_string())),
        }
    }
}

/// Runs the selected command on one thread.
///
/// # Errors
/// The error of the command.
pub fn run_blocking(cli: &Cli, environment: &Environment) -> Result<Report> {
    limits::raise()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(ErrorId::Internal, error.to_string()).about("the runtime"))?;
    let result = runtime.block_on(async {
        let command = Box::pin(run(cli, environment));
        if matches!(cli.command, Command::Run(_)) {
            return command.await;
        }
        first_process::until_signal(command).await
    });
    // Do not wait for a name server or a pipe that never answers.
    runtime.shutdown_background();
    result
}

/// Runs the selected command.
///
/// # Errors
/// The error of the command.
pub async fn run(cli: &Cli, environment: &Environment) -> Result<Report> {
    if !matches!(cli.command, Command::Completions(_) | Command::Man(_)) {
        for (name, similar) in misspelled::variables(environment) {
            let is = if similar.starts_with('-') {
                "the flag"
            } else {
                "one"
            };
            tracing::warn!(
                "{name} is not a variable of the agent, and is ignored; {similar} is {is}"
            );
        }
    }
    match &cli.command {
        Command::Enrol(args) => enrol::run(args, environment).await,
        Command::Doctor(args) => doctor::run(args, environment).await,
        Command::RotateToken(args) => rotate::token(args, environment).await,
        Command::RotateKey(args) => rotate::key(args, environment).await,
        Command::Unenrol(args) => unenrol::run(args, environment).await,
        Command::Run(args) => run::run(args, environment).await,
        Command::Prepare(args) => prepare::run(args, environment).await,
        Command::Status(args) => status::run(args, environment).await,
        Command::Facts(args) => facts::run(args, environment).await,
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
        Command::Install(args) => install::run(args, environment).await,
        Command::Uninstall(args) => uninstall::run(args, environment).await,
    }
}

/// Returns the error as the JSON object of `--output json`.
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
