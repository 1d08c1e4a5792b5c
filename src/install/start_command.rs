//! The command that starts an installed service, for the hint after an enrolment.

use super::service::ServiceManager;
use agent_core::environment::Environment;

/// The folders of units, of packages first.
const UNIT_FOLDERS: [&str; 3] = [
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
    "/etc/systemd/system",
];

/// Returns the command that starts the service of this dialect, on a host that runs its service manager and has
/// the service installed. `default` is the dialect that the service has without a drop-in.
#[must_use]
pub fn start_command(
    dialect: &str,
    default: &str,
    environment: &Environment,
) -> Option<&'static str> {
    let manager = ServiceManager::of(environment)?;
    let has = |path: &str| environment.resolved_path(path).exists();
    if !manager.runs(environment) {
        return None;
    }
    let is_enabled = std::fs::symlink_metadata(environment.path(manager.enabling_link().0)).is_ok();
    if manager == ServiceManager::OpenRc {
        let command = if is_enabled {
            "rc-service monsys-agent start"
        } else {
            "rc-update add monsys-agent && rc-service monsys-agent start"
        };
        return has(manager.enabling_link().1).then_some(command);
    }
    let mut folders = UNIT_FOLDERS.iter();
    let is_installed = folders.any(|folder| has(&format!("{folder}/monsys-agent.service")));
    let served = manager.served_dialect(default, environment);
    let command = if is_enabled {
        "systemctl start monsys-agent"
    } else {
        "systemctl enable --now monsys-agent"
    };
    (is_installed && served.as_deref().unwrap_or(default) == dialect).then_some(command)
}
