//! The checks of `doctor` on a worker: its settings, its identity and its secret.

use crate::files::EnrolmentState;
use crate::lyftdata::{Lyftdata, no_secret, no_server};
use agent_core::check::Check;

/// Returns the checks of the settings and of the worker's identity.
pub(crate) fn checks(host: &Lyftdata<'_>) -> Vec<Check> {
    let state = host.enrolment_state();
    let hub = &host.settings.hub_url.value;
    let name = match host.name() {
        // The files of a worker are enough, as for `enrol` and `status`.
        _ if matches!(
            state,
            Ok(EnrolmentState::Enrolled(_) | EnrolmentState::Unfinished)
        ) && !(host.has_server && host.name.is_some()) =>
        {
            let dir = host.jobs_dir.display();
            Check::good("settings", format!("the worker is in {dir}"))
        }
        _ if !host.has_server => Check::bad("settings", &no_server()),
        Ok(name) => Check::good("settings", format!("worker {name} of {hub}")),
        Err(error) => Check::bad("settings", &error),
    };
    let identity = match state {
        Ok(EnrolmentState::Enrolled(worker)) => match host.refuse_other_worker(&worker) {
            Ok(()) => Check::good("identity", format!("enrolled as worker {worker}")),
            Err(error) => Check::bad("identity", &error),
        },
        Ok(EnrolmentState::Unfinished) => Check::warning(
            "identity",
            "an interrupted run has not written all files of the worker",
            "monsys-agent enrol --dialect lyftdata",
        ),
        Ok(EnrolmentState::New) => Check::good("identity", "this host is not enrolled yet"),
        Err(error) => Check::bad("identity", &error),
    };
    vec![name, identity]
}

/// Returns the check of the secret when this run has none, or takes none.
pub(crate) fn without_secret(host: &Lyftdata<'_>) -> Check {
    match host.enrolment_state() {
        Ok(EnrolmentState::New) => Check::bad("token", &no_secret()),
        Ok(_) => Check::good("token", "an enrolled worker needs none"),
        Err(_) => Check::skipped("token", "it is not known whether this host is enrolled"),
    }
}
