//! `monsys-agent status`.

use std::fmt::Write;

use serde_json::json;

use super::{Report, first_boot};
use crate::cli::StatusArgs;
use crate::dialects;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Kind, Result};
use agent_core::service::{self, HealthFile, Liveness, Rate};
use agent_core::text::rows;

/// Reports the enrolment of this host, and the state of its heartbeats. Sends nothing, unless `--check-hub` asks
/// for it.
///
/// # Errors
/// Those of files that cannot be read.
pub(super) async fn run(args: &StatusArgs, environment: &Environment) -> Result<Report> {
    let flags = args.paths.flags();
    let host = match dialects::open(&flags, environment) {
        Err(error)
            if !args.check_hub
                && is_unreadable(&error)
                && dialects::is_default(dialects::select(&flags, environment)?) =>
        {
            return Ok(by_health_file(&error, environment));
        }
        opened => opened.map_err(for_reading)?,
    };
    let status = host.status()?;
    let mut report = Report {
        text: status.text,
        json: status.json,
        exit_code: status.exit_code,
        error: None,
    };
    if report.json["enrolled"] == false {
        first_boot::add_to(&mut report, environment);
    }
    if args.check_hub && host.is_enrolled()? {
        let (accepted, says, error) = match host.ask_hub().await {
            Ok(true) => (
                json!(true),
                "the hub accepts this host's own credential",
                None,
            ),
            Ok(false) => (
                json!(null),
                "this hub has no call that checks a credential",
                None,
            ),
            Err(error) => (
                json!(false),
                "the hub was asked, and did not accept this host's credential",
                Some(error),
            ),
        };
        report.json["hub_accepts"] = accepted;
        let _ = writeln!(report.text, "Asked: {says}.");
        return Ok(match error {
            Some(error) => report.with_error(Some(error)),
            None => report,
        });
    }
    Ok(report)
}

/// Returns whether the error is that of a user who may not read agent.toml.
fn is_unreadable(error: &Error) -> bool {
    error.id() == ErrorId::ConfigUnreadable && !nix::unistd::geteuid().is_root()
}

/// Returns the status for a user who may not read agent.toml, by the health file of the service, which every user
/// may read.
fn by_health_file(error: &Error, environment: &Environment) -> Report {
    let health = HealthFile::running(environment);
    let liveness = Liveness::of(health.as_ref(), &service::moment(environment));
    let agent = health.as_ref().map(|health| health.agent_id.clone());
    let text = format!(
        "This user cannot read agent.toml; this is what the service reports.\n{}{}",
        rows(&[
            ("agent", agent.clone().unwrap_or("not known".into())),
            ("heartbeat", liveness.describe(health.as_ref())),
            ("cause", error.cause().to_owned()),
        ]),
        liveness.hint(),
    );
    let is_good = liveness.rate == Rate::Good;
    Report {
        text,
        json: json!({
            "enrolled": null,
            "state": "unreadable",
            "agent_id": agent,
            "heartbeats": liveness.rate.word(),
            "last_heartbeat": health.and_then(|health| health.last_heartbeat),
            "last_heartbeat_age_secs": liveness.age.map(|age| age.as_secs()),
        }),
        exit_code: if is_good {
            0
        } else {
            Kind::Temporary.exit_code()
        },
        error: None,
    }
}

/// Turns a file that cannot be replaced into one that cannot be read, because `status` writes nothing.
fn for_reading(error: Error) -> Error {
    let of_file = [ErrorId::ConfigUnwritable, ErrorId::ConfigUnreadable];
    if !of_file.contains(&error.id()) {
        return error;
    }
    let subject = error.subject().unwrap_or_default().to_owned();
    Error::new(ErrorId::Unreadable, error.cause())
        .about(subject)
        .hint(error.next_step())
}
