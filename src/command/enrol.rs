//! `monsys-agent enrol`.

use serde_json::json;

use super::{Report, list, rows};
use crate::cli::EnrolArgs;
use crate::enrolment::{self, Done, Enrolment, Standing};
use crate::error::{Error, ErrorId, Result};
use crate::facts::HostFacts;
use crate::facts::route::Target;
use crate::hub::monsys;
use crate::hub::retry::Limit;
use crate::settings::Settings;
use crate::tags;
use crate::world::World;

/// Enrols, or says what it would do.
///
/// # Errors
/// See [`enrolment::enrol`].
pub(super) async fn run(args: &EnrolArgs, world: &World) -> Result<Report> {
    if args.has_token_flag() {
        return Err(Error::new(
            ErrorId::TokenOnCommandLine,
            "every user of this host can read a process's arguments (ps, /proc)",
        )
        .about("--token"));
    }
    if args.dry_run {
        return dry_run(args, world).await;
    }
    let enrolment = enrolment::enrol(&args.flags(), args.force, world).await?;
    Ok(report(&enrolment))
}

fn report(enrolment: &Enrolment) -> Report {
    let host = enrolment.hostname.as_deref().unwrap_or("this host");
    let hub = &enrolment.hub_url;
    let headline = match enrolment.done {
        Done::Enrolled => format!("Enrolled {host} at {hub}."),
        Done::Recovered => format!(
            "Enrolled {host} at {hub}: the hub knew its key, so it is the same agent and no use was spent."
        ),
        Done::Registered => format!("Registered {host} at {hub} with its per-agent token."),
        Done::Updated => format!("Updated {host} at {hub}; no use was spent."),
        Done::AlreadyEnrolled => {
            format!("This host is enrolled at {hub} already; nothing was sent.")
        }
    };
    let table = rows(&[
        ("agent", enrolment.agent_id.to_string()),
        ("tags", list(&enrolment.tags)),
        ("role", enrolment.role.clone().unwrap_or("none".into())),
        ("config", enrolment.config.display().to_string()),
    ]);
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
        }),
    )
}

async fn dry_run(args: &EnrolArgs, world: &World) -> Result<Report> {
    let settings = Settings::resolve(&args.flags(), world)?;
    let paths = enrolment::Paths::of(&settings, world);
    let standing = Standing::of(&settings, &paths, world)?;
    let token = describe_token(&settings, world).await?;
    let facts = HostFacts::gather(&settings, world, &Target::literal(&settings));
    let own = &settings.tags.value;
    let role = settings.role.as_ref().map(|role| role.value.clone());
    let standing = match standing {
        Standing::New => "not enrolled",
        Standing::Unconfirmed(_) => "has a per-agent token that no hub has confirmed",
        Standing::Enrolled(_) if args.force => "enrolled, and asked to enrol again",
        Standing::Enrolled(_) => {
            "enrolled already: nothing would be sent unless tags or role change"
        }
        Standing::Clone => "a clone: would make a key of its own and enrol as itself",
    };
    let hub = settings.hub_url.value.to_string();
    let path = match token.as_deref() {
        Some(kind) if kind.starts_with("per-agent") => monsys::REGISTER,
        _ => monsys::ENROL,
    };
    let mut body = monsys::facts_json(&facts);
    body["tags"] = json!(own);
    body["role"] = json!(role);
    let merged = tags::merge(&[], own);
    let text = format!(
        "Dry run: nothing was sent and nothing was changed.\n{}{}",
        rows(&[
            ("host", format!("{} ({})", facts.hostname, facts.os_info)),
            ("standing", standing.into()),
            ("token", token.clone().unwrap_or("none given".into())),
            (
                "request",
                format!("POST {}", settings.hub_url.value.join(path))
            ),
            (
                "tags",
                format!("the token's default tags, then: {}", list(&merged))
            ),
            (
                "role",
                role.clone()
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
            "standing": standing,
            "token": token,
            "hub_url": hub,
            "request": {"method": "POST", "path": path, "body": body},
            "tags": merged,
            "role": role,
            "config": paths.config,
            "state_dir": paths.state_dir,
        }),
    ))
}

/// Kind and source of the token, checked. A token command is not run: it may use the network.
async fn describe_token(settings: &Settings, world: &World) -> Result<Option<String>> {
    use crate::token_source::TokenSource;
    match &settings.token {
        None => Ok(None),
        Some(source @ TokenSource::Command(..)) => {
            Ok(Some(format!("from {source}, which was not run")))
        }
        Some(source) => {
            let limit = Limit::of(settings.wait);
            let token = source.fetch(world, limit.deadline).await?;
            Ok(Some(format!("{} from {source}", token.kind())))
        }
    }
}
