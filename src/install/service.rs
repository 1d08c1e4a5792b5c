//! The service: the service manager of the host, the files for it, and its commands.

use std::fs;
use std::path::{Path, PathBuf};

use super::system_commands::SystemCommands;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::escape::one_line;
use agent_core::redact::redact;
use agent_core::settings::Settings;
use agent_core::store::safe_read;

/// The name of the service.
const NAME: &str = "monsys-agent";
/// The path of the program in packages, which the files below contain.
const PACKAGED: &str = "/usr/bin/monsys-agent";
const UNIT: &str = include_str!("../../packaging/systemd/monsys-agent.service");
const OPENRC: &str = include_str!("../../packaging/openrc/monsys-agent");
/// The first words of a unit that `install` has written.
const UNIT_HEADER: &str = "# Written by `monsys-agent install`";
const UNIT_PATH: &str = "/etc/systemd/system/monsys-agent.service";
const DROP_INS: &str = "/etc/systemd/system/monsys-agent.service.d";
/// Name of the drop-in that selects the dialect.
const DIALECT_DROP_IN: &str = "50-dialect.conf";
const WANTED_PATH: &str = "/etc/systemd/system/multi-user.target.wants/monsys-agent.service";
const OPENRC_PATH: &str = "/etc/init.d/monsys-agent";
/// The operator's settings of the service with `OpenRC`.
pub(super) const OPENRC_SETTINGS: &str = "/etc/conf.d/monsys-agent";
const RUNLEVEL_PATH: &str = "/etc/runlevels/default/monsys-agent";

/// The folders that may contain files or links of the agent, for either service manager.
pub(super) const FOLDERS: [&str; 5] = [
    "/etc/systemd/system",
    DROP_INS,
    "/etc/systemd/system/multi-user.target.wants",
    "/etc/init.d",
    "/etc/runlevels/default",
];

/// The program that starts services on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServiceManager {
    Systemd,
    OpenRc,
}

/// A file that the service manager reads.
pub(super) struct ServiceFile {
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) mode: u32,
}

impl ServiceManager {
    /// Returns the running service manager, or else the installed one.
    pub(super) fn of(environment: &Environment) -> Option<Self> {
        let has = |path: &str| environment.resolved_path(path).exists();
        if environment.is_live() && has("/run/systemd/system") {
            Some(Self::Systemd)
        } else if environment.is_live() && has("/run/openrc") {
            Some(Self::OpenRc)
        } else if has("/usr/lib/systemd/systemd") || has("/lib/systemd/systemd") {
            Some(Self::Systemd)
        } else if has("/sbin/openrc-run") || has("/usr/sbin/openrc-run") {
            Some(Self::OpenRc)
        } else {
            None
        }
    }

    /// Returns true if the service manager is running, so that it accepts commands.
    pub(super) fn runs(self, environment: &Environment) -> bool {
        let mark = match self {
            Self::Systemd => "/run/systemd/system",
            Self::OpenRc => "/run/openrc",
        };
        environment.is_live() && environment.resolved_path(mark).exists()
    }

    /// Returns whether the service gets these variables: `OpenRC` reads them from a file of the operator.
    pub(super) fn gives(self, variables: &[(&str, String)], environment: &Environment) -> bool {
        if self == Self::Systemd || variables.is_empty() {
            return true;
        }
        let text = safe_read::text(&environment.resolved_path(OPENRC_SETTINGS)).unwrap_or_default();
        let text = text.replace(['"', '\''], "");
        let words = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'));
        let set: Vec<&str> = words.flat_map(str::split_ascii_whitespace).collect();
        variables
            .iter()
            .all(|(name, value)| set.contains(&format!("{name}={value}").as_str()))
    }

    /// Returns the name for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::OpenRc => "OpenRC",
        }
    }

    /// Returns the files of the service for this host.
    pub(super) fn files(
        self,
        binary: &Path,
        settings: &Settings,
        ephemeral: bool,
        variables: &[(&str, String)],
    ) -> Vec<ServiceFile> {
        let binary = binary.to_string_lossy();
        if self == Self::OpenRc {
            return vec![ServiceFile {
                path: OPENRC_PATH.into(),
                text: OPENRC.replace(PACKAGED, &binary),
                mode: 0o755,
            }];
        }
        let unit = UNIT.replace(PACKAGED, &binary);
        let header = unit.find("\n\n").map_or(0, |end| end + 1);
        let mut files = vec![ServiceFile {
            path: UNIT_PATH.into(),
            text: format!(
                "{UNIT_HEADER}; `monsys-agent uninstall` removes it.\n# To change something: systemctl edit monsys-agent\n{}",
                &unit[header..]
            ),
            mode: 0o644,
        }];
        if !variables.is_empty() {
            files.push(ServiceFile {
                path: Path::new(DROP_INS).join(DIALECT_DROP_IN),
                text: dialect_drop_in(variables),
                mode: 0o644,
            });
        } else if let Some(text) = paths_drop_in(settings) {
            files.push(ServiceFile {
                path: Path::new(DROP_INS).join("50-paths.conf"),
                text,
                mode: 0o644,
            });
        }
        if ephemeral {
            files.push(ServiceFile {
                path: Path::new(DROP_INS).join("50-ephemeral.conf"),
                text: EPHEMERAL.replace(PACKAGED, &binary),
                mode: 0o644,
            });
        }
        files
    }

    /// Returns the name of the dialect that the installed service serves: the one in its drop-in, or
    /// `default` when the service is enabled without one. `None` for a service that is not installed, and
    /// for `OpenRC`, which has no drop-in.
    pub(super) fn served_dialect(self, default: &str, environment: &Environment) -> Option<String> {
        if self != Self::Systemd {
            return None;
        }
        let drop_in = environment.resolved_path(Path::new(DROP_INS).join(DIALECT_DROP_IN));
        match safe_read::text(&drop_in) {
            Ok(text) => {
                let name = text.split("\"MONSYS_DIALECT=").nth(1)?;
                Some(name.split('"').next()?.to_owned())
            }
            // The link is made after the drop-in, so that a run which was killed can be repeated.
            Err(_) => fs::symlink_metadata(environment.path(self.enabling_link().0))
                .is_ok()
                .then(|| default.to_owned()),
        }
    }

    /// Returns the file of the service that `install` wrote on this host, with or without an install record.
    pub(super) fn installed_file(environment: &Environment) -> Option<&'static str> {
        let read = |path: &str| safe_read::text(&environment.resolved_path(path)).ok();
        if read(UNIT_PATH).is_some_and(|text| text.starts_with(UNIT_HEADER)) {
            return Some(UNIT_PATH);
        }
        // The same file as that of a package, with another program.
        let (before_program, _) = OPENRC.split_once(PACKAGED)?;
        let text = read(OPENRC_PATH)?;
        (text.starts_with(before_program) && text != OPENRC).then_some(OPENRC_PATH)
    }

    /// Returns the path and the target of the link that enables the service at boot.
    pub(super) fn enabling_link(self) -> (&'static str, &'static str) {
        match self {
            Self::Systemd => (WANTED_PATH, UNIT_PATH),
            Self::OpenRc => (RUNLEVEL_PATH, OPENRC_PATH),
        }
    }

    /// Makes the service manager read its files again.
    pub(super) async fn reload(self, system: &SystemCommands<'_>) -> Result<()> {
        match self {
            Self::Systemd => system.run("systemctl", &["daemon-reload"]).await,
            Self::OpenRc => Ok(()),
        }
    }

    /// Returns true if the service is up.
    pub(super) async fn is_up(self, system: &SystemCommands<'_>) -> Result<bool> {
        let output = match self {
            Self::Systemd => {
                let arguments = ["is-active", "--quiet", NAME];
                system.output("systemctl", &arguments).await?
            }
            Self::OpenRc => system.output("rc-service", &[NAME, "status"]).await?,
        };
        Ok(output.success)
    }

    /// Starts or restarts the service, and waits until it is up.
    pub(super) async fn bring_up(self, verb: &str, system: &SystemCommands<'_>) -> Result<()> {
        let done = match self {
            Self::Systemd => system.run("systemctl", &[verb, NAME]).await,
            Self::OpenRc => system.run("rc-service", &[NAME, verb]).await,
        };
        let cause = match done {
            // An older systemd reports success for a failed start that is retried.
            Ok(()) if self.is_up(system).await? => return Ok(()),
            Ok(()) => "it exited at once".to_owned(),
            Err(error) => error.cause().to_owned(),
        };
        let recent_log = self.recent_log(system).await;
        Err(Error::new(ErrorId::ServiceFailed, format!("{cause}{recent_log}")).about(NAME))
    }

    /// Starts the service as it was before. Only logs an error, because the caller reports another one.
    pub(super) async fn start_again(self, system: &SystemCommands<'_>) {
        if let Err(error) = self.bring_up("restart", system).await {
            tracing::warn!("{}: {}", error.what(), error.cause());
        }
    }

    /// Returns the last log lines of the service, and its state.
    async fn recent_log(self, system: &SystemCommands<'_>) -> String {
        if self != Self::Systemd {
            return String::new();
        }
        let show = [
            "show",
            "--property=Result,ExecMainStatus,StatusText",
            "--",
            NAME,
        ];
        let journal = [
            "--unit=monsys-agent",
            "--lines=4",
            "--output=cat",
            "--no-pager",
        ];
        let mut lines = String::new();
        for (program, arguments) in [("systemctl", &show[..]), ("journalctl", &journal)] {
            if let Ok(output) = system.output(program, arguments).await {
                for line in output.stdout.lines().filter(|line| !line.trim().is_empty()) {
                    lines.push_str("\n        ");
                    lines.push_str(&one_line(&redact(line)));
                }
            }
        }
        lines
    }

    /// Stops the service.
    pub(super) async fn stop(self, system: &SystemCommands<'_>) -> Result<()> {
        match self {
            Self::Systemd => system.run("systemctl", &["stop", NAME]).await,
            Self::OpenRc => system.run("rc-service", &[NAME, "stop"]).await,
        }
    }

    /// Makes the service manager forget a service whose files are removed.
    pub(super) async fn forget(self, system: &SystemCommands<'_>) -> Result<()> {
        self.reload(system).await?;
        if self == Self::Systemd {
            // The command fails unless the service had failed.
            drop(system.output("systemctl", &["reset-failed", NAME]).await);
        }
        Ok(())
    }
}

/// The drop-in of `--ephemeral`. `+` runs the command as root: systemd answers root even while the bus
/// stops.
const EPHEMERAL: &str = "\
# Written by `monsys-agent install --ephemeral`: unenrols this host when it is powered off or halted, but
# not at a reboot or a restart of the service.
[Service]
ExecStopPost=+/bin/sh -c 'if systemctl list-jobs --no-legend poweroff.target halt.target | grep -q start; then exec /usr/bin/monsys-agent unenrol; fi'
";

/// Returns the drop-in for paths that are not the default ones.
fn paths_drop_in(settings: &Settings) -> Option<String> {
    let config = &settings.config_path;
    let state = &settings.state_dir.value;
    let is_default =
        config == Path::new("/etc/monsys/agent.toml") && state == Path::new("/var/lib/monsys");
    let quoted = |path: &Path| quoted(&path.to_string_lossy());
    (!is_default).then(|| {
        format!(
            "# Written by `monsys-agent install` for --config and --state-dir.\n[Service]\nEnvironment=\"MONSYS_CONFIG={}\" \"MONSYS_STATE_DIR={}\"\n",
            quoted(config),
            quoted(state),
        )
    })
}

/// Returns the drop-in that selects the dialect of the service.
fn dialect_drop_in(variables: &[(&str, String)]) -> String {
    let assignments: Vec<String> = variables
        .iter()
        .map(|(name, value)| format!("\"{name}={}\"", quoted(value)))
        .collect();
    format!(
        "# Written by `monsys-agent install` for --dialect.\n[Service]\nEnvironment={}\n",
        assignments.join(" ")
    )
}

/// Escapes text between quotes in a unit (systemd.unit(5)).
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_contain_the_path_of_the_binary() {
        let environment = Environment::real([])
            .with_root("/nowhere")
            .with_variables(Vec::<(String, String)>::new());
        let settings =
            Settings::resolve(&agent_core::flags::Flags::default(), &environment).unwrap();
        for manager in [ServiceManager::Systemd, ServiceManager::OpenRc] {
            let files = manager.files(
                Path::new("/opt/monsys/bin/monsys-agent"),
                &settings,
                true,
                &[],
            );
            for file in &files {
                assert!(!file.text.contains(PACKAGED), "{}", file.text);
            }
            assert!(files[0].text.contains("/opt/monsys/bin/monsys-agent"));
        }
    }

    #[test]
    fn other_paths_are_in_the_environment_of_the_service() {
        let environment = Environment::real([])
            .with_root("/nowhere")
            .with_variables([("MONSYS_CONFIG", "/srv/50% \"x\"/agent.toml")]);
        let settings =
            Settings::resolve(&agent_core::flags::Flags::default(), &environment).unwrap();
        let text = paths_drop_in(&settings).unwrap();
        assert!(
            text.contains(r#"Environment="MONSYS_CONFIG=/srv/50%% \"x\"/agent.toml""#),
            "{text}"
        );
        assert!(
            text.contains(r#""MONSYS_STATE_DIR=/var/lib/monsys""#),
            "{text}"
        );
    }
}
