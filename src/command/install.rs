//! `monsys-agent install`.

use serde_json::{Value, json};

use super::{Report, enrol};
use crate::cli::InstallArgs;
use crate::dialects;
use crate::install::{
    self, EnrolOutcome, INSTALL_RECORD, InstallOptions, Installed, ServiceOutcome,
};
use agent_core::VERSION;
use agent_core::enrolment::Descriptor;
use agent_core::environment::Environment;
use agent_core::error::Result;
use agent_core::escape::{indented, one_line};

/// Installs the agent, or reports what an installation would do.
///
/// # Errors
/// See [`install::install`].
pub(super) async fn run(args: &InstallArgs, environment: &Environment) -> Result<Report> {
    args.enrol.refuse_token()?;
    let options = InstallOptions {
        flags: args.enrol.flags(),
        force: args.enrol.force,
        defer: args.enrol.defer,
        no_enrol: args.no_enrol,
        no_start: args.no_start,
        ephemeral: args.ephemeral,
    };
    for (is_given, flag) in [
        (options.defer, "--defer"),
        (options.ephemeral, "--ephemeral"),
    ] {
        if is_given {
            dialects::monsys_only(flag, &options.flags, environment)?;
        }
    }
    if args.enrol.dry_run {
        let plan = install::preview(&options, environment)?;
        return Ok(planned(&plan, &options));
    }
    let installed = install::install(&options, environment).await?;
    Ok(report(
        &installed,
        dialects::select(&options.flags, environment)?,
    ))
}

fn planned(plan: &Installed, options: &InstallOptions) -> Report {
    let mut steps: Vec<String> = plan.changes.iter().map(ToString::to_string).collect();
    if options.defer {
        steps.push("prepare the image: see `monsys-agent enrol --defer`".into());
    } else if !options.no_enrol {
        steps.push(
            "enrol this host, unless it is enrolled: see `monsys-agent enrol --dry-run`".into(),
        );
    }
    if plan.service == ServiceOutcome::Started {
        steps.push("start the service, or restart it if its files have changed".into());
    }
    let text = format!(
        "Dry run: nothing was changed. An installation would make these changes:\n{}{}",
        lines(&steps),
        not_done(plan)
    );
    Report::new(text, json(plan, "dry_run"))
}

fn report(installed: &Installed, dialect: &Descriptor) -> Report {
    let (enrolment, text, error) = match &installed.enrolled {
        None => (
            Value::Null,
            "Not enrolled: --no-enrol was given.\n".into(),
            None,
        ),
        Some(enrolled) => {
            let report = match enrolled {
                EnrolOutcome::Enrolled(enrolment) => enrol::report(enrolment, dialect),
                EnrolOutcome::Deferred(deferred) => enrol::deferred(deferred),
            };
            (report.json, report.text, report.error)
        }
    };
    let headline = if installed.changed {
        "Installed"
    } else {
        "Nothing to change:"
    };
    let steps: Vec<String> = installed.changes.iter().map(ToString::to_string).collect();
    let service = match installed.service {
        ServiceOutcome::Started => "The service is up.\n",
        ServiceOutcome::Restarted => "The service was restarted, and is up.\n",
        ServiceOutcome::Running => "The service was up already, and was not restarted.\n",
        ServiceOutcome::NotStarted => "The service was not started; it starts at the next boot.\n",
        ServiceOutcome::None => "",
    };
    let text = format!(
        "{headline} monsys-agent {VERSION}, {}\n{}{service}{}{text}",
        installed.binary.display(),
        lines(&steps),
        not_done(installed),
    );
    let result = if installed.changed {
        "installed"
    } else {
        "unchanged"
    };
    let mut json = json(installed, result);
    json["enrolment"] = enrolment;
    json["service"] = json!(installed.service.word());
    Report::new(text, json).with_error(error)
}

fn json(installed: &Installed, result: &str) -> Value {
    let changes: Vec<Value> = installed
        .changes
        .iter()
        .map(install::Change::json)
        .collect();
    let not_done: Vec<Value> = installed
        .not_done
        .iter()
        .map(|step| json!({"what": step.what, "cause": step.cause, "hint": step.hint}))
        .collect();
    json!({
        "result": result,
        "changed": installed.changed,
        "version": VERSION,
        "binary": installed.binary,
        "install_record": INSTALL_RECORD,
        "changes": changes,
        "not_done": not_done,
    })
}

fn not_done(installed: &Installed) -> String {
    let append = |text: String, step: &install::NotDone| {
        text + &format!(
            "Not done: {}\n  cause: {}\n  hint:  {}\n",
            one_line(&step.what),
            indented(&step.cause),
            indented(&step.hint)
        )
    };
    installed.not_done.iter().fold(String::new(), append)
}

fn lines(steps: &[String]) -> String {
    steps.iter().fold(String::new(), |text, step| {
        text + &format!("  - {}\n", one_line(step))
    })
}
