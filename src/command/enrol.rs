//! `monsys-agent enrol`.

use serde_json::json;

use super::{Report, list, rows};
use crate::cli::EnrolArgs;
use crate::enrolment::{self, Deferred, Done, Enrolment, Paths, Plan};
use crate::error::Result;
use crate::facts::HostFacts;
use crate::facts::route::Target;
use crate::hub::monsys;
use crate::hub::retry::Limit;
use crate::settings::Settings;
use crate::token::Kind;
use crate::token_source::TokenSource;
use crate::world::World;

/// Enrols, or says what it would do.
///
/// # Errors
/// See [`enrolment::enrol`].
pub(super) async fn run(args: &EnrolArgs, world: &World) -> Result<Report> {
    args.refuse_token()?;
    if args.dry_run {
        return dry_run(args, world).await;
    }
    if args.defer {
        return Ok(deferred(&enrolment::defer(&args.flags(), world).await?));
    }
    let enrolment = enrolment::enrol(&args.flags(), args.force, world).await?;
    Ok(report(&enrolment))
}

/// What an enrolment came to.
pub(super) fn report(enrolment: &Enrolment) -> Report {
    let host = enrolment.hostname.as_deref().unwrap_or("this host");
    let hub = &enrolment.hub_url;
    let headline = match enrolment.done {
        Done::Enrolled => format!("Enrolled {host} at {hub}."),
        Done::Recovered => {
            format!("Enrolled {host} at {hub}: the hub knew its key, so it is the same agent.")
        }
        Done::Registered => format!("Registered {host} at {hub} with its per-agent token."),
        Done::Updated => format!("Updated {host} at {hub}; no use was spent."),
        Done::AlreadyEnrolled => {
            format!("This host is enrolled at {hub} already; nothing was sent.")
        }
    };
    let mut facts = vec![
        ("agent", enrolment.agent_id.to_string()),
        ("tags", list(&enrolment.tags)),
        ("role", enrolment.role.clone().unwrap_or("none".into())),
        ("config", enrolment.config.display().to_string()),
    ];
    if !enrolment.scrubbed.is_empty() {
        let files = enrolment.scrubbed.len();
        let plural = if files == 1 { "" } else { "s" };
        facts.push((
            "scrubbed",
            format!("the token, from {files} file{plural} of cloud-init"),
        ));
    }
    let table = rows(&facts);
    let next = match enrolment.done {
        Done::AlreadyEnrolled => "To enrol again: monsys-agent enrol --force\n",
        _ => "Next: monsys-agent status\n",
    };
    Report::new(
        format!("{headline}\n{table}{next}"),
        json!({
            "result": enrolment.done.word(),
            "changed": enrolment.changed,
            "agent_id": enrolment.agent_id,
            "hub_url": enrolment.hub_url,
            "tags": enrolment.tags,
            "role": enrolment.role,
            "config": enrolment.config,
            "scrubbed": enrolment.scrubbed,
        }),
    )
}

/// What the preparation of an image came to.
pub(super) fn deferred(deferred: &Deferred) -> Report {
    let token = match &deferred.token_from {
        Some(from) => format!("at the first boot, from {from}"),
        None => "to be given at the first boot".into(),
    };
    let text = format!(
        "Prepared this image for {}: nothing was sent, and no use was spent.\n{}At the first boot: monsys-agent enrol\n",
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

async fn dry_run(args: &EnrolArgs, world: &World) -> Result<Report> {
    let settings = Settings::resolve(&args.flags(), world)?;
    let token = token(&settings, args.force, world).await?;
    // A token command is not run: it may use the network. It most likely has an enrolment token.
    let kind = token
        .as_ref()
        .map(|(kind, _)| kind.unwrap_or(Kind::Enrolment));
    let described = token.as_ref().map(|(kind, from)| match kind {
        Some(kind) => format!("{kind} from {from}"),
        None => format!("from {from}, which was not run"),
    });
    let ask = match enrolment::preview(&settings, kind, args.force, world)? {
        Plan::Ask(ask) => ask,
        Plan::Already(enrolled) => {
            let text = format!(
                "Dry run: this host is enrolled at {} already; nothing would be sent.\n",
                enrolled.hub_url
            );
            let json = json!({"result": "dry_run", "changed": false, "request": null});
            return Ok(Report::new(text, json));
        }
    };
    let facts = HostFacts::gather(&settings, world, &Target::literal(&settings));
    let paths = Paths::of(&settings, world);
    let mut body = monsys::facts_json(&facts);
    body["tags"] = json!(ask.own.tags);
    body["role"] = json!(ask.own.role);
    let url = settings.hub_url.value.join(ask.call.path()).to_string();
    let key = if ask.is_clone {
        "a new one: the identity on this disk is another machine's"
    } else {
        "this host's own"
    };
    let text = format!(
        "Dry run: nothing was sent and nothing was changed.\n{}{}",
        rows(&[
            ("host", format!("{} ({})", facts.hostname, facts.os_info)),
            ("token", described.clone().unwrap_or("none given".into())),
            ("request", format!("POST {url}")),
            ("key", key.into()),
            (
                "tags",
                format!("the token's default tags, then: {}", list(&ask.own.tags))
            ),
            (
                "role",
                ask.own
                    .role
                    .clone()
                    .unwrap_or("the token's default role, if it has one".into())
            ),
            ("config", paths.config.display().to_string()),
            ("state", paths.state_dir.display().to_string()),
        ]),
        "To see the facts that are sent: monsys-agent facts\n"
    );
    Ok(Report::new(
        text,
        json!({
            "result": "dry_run",
            "changed": false,
            "token": described,
            "hub_url": settings.hub_url.value.to_string(),
            "request": {"method": "POST", "url": url, "path": ask.call.path(), "body": body},
            "tags": ask.own.tags,
            "role": ask.own.role,
            "config": paths.config,
            "state_dir": paths.state_dir,
        }),
    ))
}

/// Source of the token, and its kind, which is not known of a command that was not run.
async fn token<'a>(
    settings: &'a Settings,
    force: bool,
    world: &World,
) -> Result<Option<(Option<Kind>, &'a TokenSource)>> {
    match &settings.token {
        None => Ok(None),
        // The real run would not take it, and would not fetch it.
        Some(_) if !enrolment::takes_token(settings, force, world)? => Ok(None),
        Some(source @ TokenSource::Command(..)) => Ok(Some((None, source))),
        Some(source) => {
            let limit = Limit::of(settings.wait);
            let token = source.fetch(world, limit.deadline).await?;
            Ok(Some((Some(token.kind()), source)))
        }
    }
}
