//! The service: which manager the host has, the files that it reads, and the commands it takes.

use std::path::{Path, PathBuf};

use super::system::System;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::escape::one_line;
use agent_core::redact::redact;
use agent_core::settings::Settings;

/// Name of the service.
const NAME: &str = "monsys-agent";
/// Where packages have the binary, as the files below name it.
const PACKAGED: &str = "/usr/bin/monsys-agent";
const UNIT: &str = include_str!("../../packaging/systemd/monsys-agent.service");
const OPENRC: &str = include_str!("../../packaging/openrc/monsys-agent");
const UNIT_PATH: &str = "/etc/systemd/system/monsys-agent.service";
const DROP_INS: &str = "/etc/systemd/system/monsys-agent.service.d";
const WANTED_PATH: &str = "/etc/systemd/system/multi-user.target.wants/monsys-agent.service";
const OPENRC_PATH: &str = "/etc/init.d/monsys-agent";
const RUNLEVEL_PATH: &str = "/etc/runlevels/default/monsys-agent";

/// Folders that may hold files or links of ours, whatever the manager.
pub(super) const FOLDERS: [&str; 5] = [
    "/etc/systemd/system",
    DROP_INS,
    "/etc/systemd/system/multi-user.target.wants",
    "/etc/init.d",
    "/etc/runlevels/default",
];

/// What starts services on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manager {
    Systemd,
    OpenRc,
}

/// A file that the manager reads.
pub(super) struct ServiceFile {
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) mode: u32,
}

impl Manager {
    /// The one that runs, or else the one that is installed.
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

    /// Whether it runs, and takes commands.
    pub(super) fn runs(self, environment: &Environment) -> bool {
        let mark = match self {
            Self::Systemd => "/run/systemd/system",
            Self::OpenRc => "/run/openrc",
        };
        environment.is_live() && environment.resolved_path(mark).exists()
    }

    /// Name for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::OpenRc => "OpenRC",
        }
    }

    /// Its files for this host.
    pub(super) fn files(
        self,
        binary: &Path,
        settings: &Settings,
        ephemeral: bool,
        told: &[(&str, String)],
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
                "# Written by `monsys-agent install`; `monsys-agent uninstall` takes it back.\n# To change something: systemctl edit monsys-agent\n{}",
                &unit[header..]
            ),
            mode: 0o644,
        }];
        if !told.is_empty() {
            files.push(ServiceFile {
                path: Path::new(DROP_INS).join("50-dialect.conf"),
                text: other_system(told),
                mode: 0o644,
            });
        } else if let Some(text) = other_paths(settings) {
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

    /// The link that has it started at each boot, and what it leads to.
    pub(super) fn enabled(self) -> (&'static str, &'static str) {
        match self {
            Self::Systemd => (WANTED_PATH, UNIT_PATH),
            Self::OpenRc => (RUNLEVEL_PATH, OPENRC_PATH),
        }
    }

    /// Has it read its files anew.
    pub(super) async fn reload(self, system: &System<'_>) -> Result<()> {
        match self {
            Self::Systemd => system.run("systemctl", &["daemon-reload"]).await,
            Self::OpenRc => Ok(()),
        }
    }

    /// Whether the service is up.
    pub(super) async fn is_up(self, system: &System<'_>) -> Result<bool> {
        let said = match self {
            Self::Systemd => {
                let arguments = ["is-active", "--quiet", NAME];
                system.ask("systemctl", &arguments).await?
            }
            Self::OpenRc => system.ask("rc-service", &[NAME, "status"]).await?,
        };
        Ok(said.success)
    }

    /// Starts or restarts the service, and waits until it says that it is up.
    pub(super) async fn bring_up(self, verb: &str, system: &System<'_>) -> Result<()> {
        let done = match self {
            Self::Systemd => system.run("systemctl", &[verb, NAME]).await,
            Self::OpenRc => system.run("rc-service", &[NAME, verb]).await,
        };
        let cause = match done {
            // An older systemd forgets a failed start that is tried again.
            Ok(()) if self.is_up(system).await? => return Ok(()),
            Ok(()) => "it ended at once".to_owned(),
            Err(error) => error.cause().to_owned(),
        };
        let last_words = self.last_words(system).await;
        Err(Error::new(ErrorId::ServiceFailed, format!("{cause}{last_words}")).about(NAME))
    }

    /// Starts the service as it was before. What goes wrong is only told: another failure is under way.
    pub(super) async fn start_again(self, system: &System<'_>) {
        if let Err(error) = self.bring_up("restart", system).await {
            tracing::warn!("{}: {}", error.what(), error.cause());
        }
    }

    /// What the service said last, and how it stands.
    async fn last_words(self, system: &System<'_>) -> String {
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
        let mut words = String::new();
        for (program, arguments) in [("systemctl", &show[..]), ("journalctl", &journal)] {
            if let Ok(said) = system.ask(program, arguments).await {
                for line in said.stdout.lines().filter(|line| !line.trim().is_empty()) {
                    words.push_str("\n        ");
                    words.push_str(&one_line(&redact(line)));
                }
            }
        }
        words
    }

    /// Stops the service. One that is not there is fine.
    pub(super) async fn stop(self, system: &System<'_>) -> Result<()> {
        match self {
            Self::Systemd => system.run("systemctl", &["stop", NAME]).await,
            Self::OpenRc => system.run("rc-service", &[NAME, "stop"]).await,
        }
    }

    /// Has it forget a service that is not there any more.
    pub(super) async fn forget(self, system: &System<'_>) -> Result<()> {
        self.reload(system).await?;
        if self == Self::Systemd {
            // There is nothing to forget unless the service had failed.
            drop(system.ask("systemctl", &["reset-failed", NAME]).await);
        }
        Ok(())
    }
}

/// The hook of `--ephemeral`. `+` is root: the manager answers root also while the bus goes down.
const EPHEMERAL: &str = "\
# Written by `monsys-agent install --ephemeral`: when this host is powered off or halted, and not at
# a reboot or a restart of the service, the hub is told that the host leaves for good.
[Service]
ExecStopPost=+/bin/sh -c 'if systemctl list-jobs --no-legend poweroff.target halt.target | grep -q start; then exec /usr/bin/monsys-agent unenrol; fi'
";

/// The unit's lines for paths that are not the usual ones.
fn other_paths(settings: &Settings) -> Option<String> {
    let config = &settings.config_path;
    let state = &settings.state_dir.value;
    let is_usual =
        config == Path::new("/etc/monsys/agent.toml") && state == Path::new("/var/lib/monsys");
    let quoted = |path: &Path| quoted(&path.to_string_lossy());
    (!is_usual).then(|| {
        format!(
            "# Written by `monsys-agent install` for --config and --state-dir.\n[Service]\nEnvironment=\"MONSYS_CONFIG={}\" \"MONSYS_STATE_DIR={}\"\n",
            quoted(config),
            quoted(state),
        )
    })
}

/// Which system the service is of.
fn other_system(told: &[(&str, String)]) -> String {
    let variables: Vec<String> = told
        .iter()
        .map(|(name, value)| format!("\"{name}={}\"", quoted(value)))
        .collect();
    format!(
        "# Written by `monsys-agent install` for --dialect.\n[Service]\nEnvironment={}\n",
        variables.join(" ")
    )
}

/// Between quotes in a unit.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_name_the_binary_where_it_is() {
        let environment = Environment::real([])
            .with_root("/nowhere")
            .with_variables(Vec::<(String, String)>::new());
        let settings =
            Settings::resolve(&agent_core::flags::Flags::default(), &environment).unwrap();
        for manager in [Manager::Systemd, Manager::OpenRc] {
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
    fn other_paths_are_told_to_the_service() {
        let environment = Environment::real([])
            .with_root("/nowhere")
            .with_variables([("MONSYS_CONFIG", "/srv/50% \"x\"/agent.toml")]);
        let settings =
            Settings::resolve(&agent_core::flags::Flags::default(), &environment).unwrap();
        let text = other_paths(&settings).unwrap();
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
