//! The checks of `doctor` on a sensor: its settings, its identity and its token.

use crate::ravenxcope::Ravenxcope;
use crate::settings::INSTALL_TOKEN;
use crate::status::ENROL_AGAIN;
use agent_core::check::Check;

/// Returns the checks of the settings and of the sensor's identity.
pub(crate) fn checks(host: &Ravenxcope<'_>) -> Vec<Check> {
    let path = host.file.path();
    let is_there = if path.exists() {
        "is read"
    } else {
        "is not there yet"
    };
    let settings = format!(
        "{} {is_there}; the backend is {}",
        path.display(),
        host.settings.hub_url.value
    );
    let identity = match (host.id(), &host.token, host.lost_response()) {
        (Err(error), ..) => Check::bad("identity", &error),
        (Ok(id), _, Some(pending)) => Check::warning(
            "identity",
            format!(
                "the response to the request of {} for sensor {id} was lost",
                pending.sent_at()
            ),
            ENROL_AGAIN,
        ),
        (Ok(id), Some(_), None) => Check::good("identity", format!("enrolled as sensor {id}")),
        (Ok(id), None, None) => Check::good("identity", format!("sensor {id} is not enrolled yet")),
    };
    vec![Check::good("settings", settings), identity]
}

/// Returns the check of the install token when this run has none, or takes none.
pub(crate) fn without_secret(host: &Ravenxcope<'_>) -> Check {
    let name = "token";
    if host.token.is_none() {
        return Check::bad(name, &host.no_install_token());
    }
    match &host.settings.token {
        Some(source) => Check::warning(
            name,
            format!("an enrolled sensor needs none, and {source} holds one"),
            format!(
                "remove {INSTALL_TOKEN} there; or use it: monsys-agent enrol --dialect ravenxcope --force"
            ),
        ),
        None => Check::good(name, "an enrolled sensor needs none"),
    }
}
