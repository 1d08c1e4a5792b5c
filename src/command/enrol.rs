//! `monsys-agent enrol`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Report;
use crate::cli::EnrolArgs;
use crate::dialects;
use crate::install::start_command;
use agent_core::enrolment::{self, Confirmation, Done, Enrolment};
use agent_core::enrolment::{Descriptor, Dialect};
use agent_core::environment::Environment;
use agent_core::error::Result;
use agent_core::escape::one_line;
use agent_core::facts::HostFacts;
use agent_core::facts::route::Target;
use agent_core::hub::retry::Limit;
use agent_core::text::{format_value, list, rows};
use agent_core::token::Kind;
use agent_core::token_source::TokenSource;
use dialect_monsys::{self as monsys, Deferred};

/// Enrols this host, or reports what an enrolment would do.
///
/// # Errors
/// See [`dialects::enrol`].
pub(super) async fn run(args: &EnrolArgs, environment: &Environment) -> Result<Report> {
    args.refuse_token()?;
    if args.dry_run {
        return dry_run(args, environment).await;
    }
    if args.defer {
        dialects::monsys_only("--defer", &args.flags(), environment)?;
        return Ok(deferred(&monsys::defer(&args.flags(), environment).await?));
    }
    let enrolment = dialects::enrol(None, &args.flags(), args.force, environment).await?;
    let dialect = dialects::select(&args.flags(), environment)?;
    let mut report = report(&enrolment, dialect);
    if let Some(start) = start_command(dialect.name, dialects::default().name, environment) {
        // The command does nothing on a host whose service runs.
        let _ = writeln!(report.text, "To start the service, unless it runs: {start}");
    }
    Ok(report)
}

/// Returns the report of an enrolment.
pub(super) fn report(enrolment: &Enrolment, dialect: &Descriptor) -> Report {
    let host = one_line(enrolment.hostname.as_deref().unwrap_or("this host"));
    let hub = match enrolment.hub_url.as_str() {
        "" => "an unknown server",
        hub => hub,
    };
    let headline = match enrolment.done {
        Done::Enrolled => format!("Enrolled {host} at {hub}."),
        Done::Recovered => {
            format!("Enrolled {host} at {hub}: the hub knew its key, so it stays the same agent.")
        }
        Done::Registered => format!("Registered {host} at {hub} with its per-agent token."),
        Done::Updated => format!("Updated {host} at {hub}; no use of the token was spent."),
        Done::Readmitted => {
            format!(
                "Enrolled {host} at {hub} again: the hub had forgotten it, and took the same agent back by its receipt."
            )
        }
        Done::AlreadyEnrolled => match &enrolment.confirmation {
            Confirmation::Confirmed => {
                format!("This host is enrolled at {hub}; the hub has confirmed it.")
            }
            Confirmation::NotRequested => {
                format!("This host is enrolled at {hub}; the hub was not asked (--offline).")
            }
            Confirmation::NotAvailable => {
                format!(
                    "This host is enrolled at {hub} already; nothing was sent, since that hub has no call that confirms it."
                )
            }
            Confirmation::NoAnswer(_) => {
                format!(
                    "This host was enrolled at {hub} before; the hub did not answer, so this run has not confirmed it."
                )
            }
        },
    };
    let mut facts: Vec<(&str, String)> = enrolment
        .fields
        .iter()
        .map(|field| (field.label, format_value(&field.value)))
        .collect();
    for change in &enrolment.changes {
        facts.push(("changed", change.text.clone()));
    }
    let cleanup = &enrolment.cleanup;
    if !cleanup.scrubbed.is_empty() {
        let files = cleanup.scrubbed.len();
        let plural = if files == 1 { "" } else { "s" };
        facts.push((
            "scrubbed",
            format!("the token, removed from {files} file{plural} of cloud-init"),
        ));
    }
    let table = rows(&facts);
    let dialect = if dialects::is_default(dialect) {
        String::new()
    } else {
        format!(" --dialect {}", dialect.name)
    };
    let next = match enrolment.done {
        Done::AlreadyEnrolled => {
            format!("To enrol again: monsys-agent enrol{dialect} --force\n")
        }
        _ => format!("Next: monsys-agent status{dialect}\n"),
    };
    let mut json = json!({
        "result": enrolment.done.word(),
        "changed": enrolment.changed,
        "confirmed": enrolment.confirmation.is_given(),
        "changes": enrolment.changes.iter().map(|change| json!({"setting": change.setting, "text": change.text})).collect::<Vec<_>>(),
        "hub_url": enrolment.hub_url,
        "scrubbed": cleanup.scrubbed,
        "left": cleanup.left.iter().map(|left| json!({"path": left.path, "cause": left.cause})).collect::<Vec<_>>(),
        "unsearched": cleanup.unsearched.iter().map(|place| json!({"place": place.place, "look": place.look})).collect::<Vec<_>>(),
    });
    for field in &enrolment.fields {
        json[field.key] = field.value.clone();
    }
    let no_answer = match &enrolment.confirmation {
        Confirmation::NoAnswer(error) => Some(error.clone()),
        _ => None,
    };
    // A token that stays on the disk is worse than a hub that does not answer.
    let error = cleanup.error().or(no_answer);
    Report::new(format!("{headline}\n{table}{next}"), json).with_error(error)
}

/// Returns the report of a prepared image.
pub(super) fn deferred(deferred: &Deferred) -> Report {
    let token = match &deferred.token_from {
        Some(from) => format!("at the first boot, from {from}"),
        None => "needed at the first boot".into(),
    };
    let text = format!(
        "Prepared this image for {}: nothing was sent, and no use of the token was spent.\n{}At the first boot: monsys-agent enrol\n",
        deferred.hub_url,
        rows(&[
            ("tags", list(&deferred.tags)),
            ("role", deferred.role.clone().unwrap_or("none".into())),
            ("token", token),
            ("config", deferred.config.display().to_string()),
        ])
    );
    Report::new(
        text,
        json!({
            "result": "deferred",
            "changed": deferred.changed,
            "hub_url": deferred.hub_url,
            "tags": deferred.tags,
            "role": deferred.role,
            "token_from": deferred.token_from,
            "config": deferred.config,
        }),
    )
}

async fn dry_run(args: &EnrolArgs, environment: &Environment) -> Result<Report> {
    let flags = args.flags();
    let host = dialects::open(&flags, environment)?;
    let settings = host.settings();
    let secret = secret(&*host, args.force, environment).await?;
    // A token command may use the network, so it is not run. Its token is probably an enrolment token.
    let kind = secret
        .as_ref()
        .map(|(kind, _)| kind.unwrap_or(Kind::Enrolment));
    let described = secret.as_ref().map(|(kind, from)| match kind {
        Some(kind) => format!("{kind} from {from}"),
        None => format!("from {from}, which was not run"),
    });
    let facts = HostFacts::gather(settings, environment, &Target::literal(settings));
    let Some(preview) = host.preview(kind, args.force, &facts)? else {
        let text = format!(
            "Dry run: this host is enrolled at {} already; nothing would be sent.\n",
            host.enrolled()?.hub_url
        );
        let json =
            json!({"result": "dry_run", "changed": false, "would_change": false, "request": null});
        return Ok(Report::new(text, json));
    };
    let mut table = vec![
        ("host", format!("{} ({})", facts.hostname, facts.os_info)),
        ("token", described.clone().unwrap_or("none".into())),
        ("request", format!("POST {}", preview.url)),
    ];
    table.extend(preview.rows);
    let text = format!(
        "Dry run: nothing was sent and nothing was changed.\n{}{}",
        rows(&table),
        "To print the facts that an enrolment sends: monsys-agent facts\n"
    );
    let mut json = json!({
        "result": "dry_run",
        "changed": false,
        "would_change": preview.is_change,
        "token": described,
        "hub_url": settings.hub_url.value.to_string(),
        "request": {
            "method": "POST",
            "url": preview.url,
            "path": preview.path,
            "body": preview.body,
        },
    });
    if let (Some(json), Value::Object(own)) = (json.as_object_mut(), preview.json) {
        json.extend(own);
    }
    Ok(Report::new(text, json))
}

/// Returns the source of the secret, and its kind. The kind of a command's secret is not known, because the
/// command is not run.
async fn secret<'a>(
    host: &'a dyn Dialect,
    force: bool,
    environment: &Environment,
) -> Result<Option<(Option<Kind>, &'a TokenSource)>> {
    let source = host.settings().token.as_ref();
    let Some(source) = source.filter(|_| host.takes_secret(force).unwrap_or(false)) else {
        // An enrolment would not fetch the secret either.
        return Ok(None);
    };
    if matches!(source, TokenSource::Command(..)) {
        return Ok(Some((None, source)));
    }
    let limit = Limit::of(host.settings().wait.value).once();
    let secret = enrolment::fetch(host, environment, limit).await?;
    Ok(secret.map(|secret| (Some(secret.kind()), source)))
}
