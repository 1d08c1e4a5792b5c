//! The checks before the plan: the user, a package of the agent, and the token of the enrolment.

use super::InstallOptions;
use super::record::InstallRecord;
use crate::dialects;
use agent_core::environment::{Environment, SECRET_VARIABLE};
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::HostFacts;
use agent_core::facts::route::Target;
use agent_core::settings::table;
use agent_core::token::Kind;

/// The path of the program in a package.
const BINARY: &str = "/usr/bin/monsys-agent";
/// The list of files of dpkg, if the package is a Debian package.
const DPKG: &str = "/var/lib/dpkg/info/monsys-agent.list";

/// Refuses a host whose agent was installed by a package, and not by `install`.
///
/// # Errors
/// [`ErrorId::PackageOwned`].
pub(super) fn refuse_package(record: &InstallRecord, environment: &Environment) -> Result<()> {
    if !record.done.is_empty() || !environment.resolved_path(BINARY).exists() {
        return Ok(());
    }
    let remove = if environment.resolved_path(DPKG).exists() {
        "apt-get remove monsys-agent"
    } else {
        "dnf remove monsys-agent, or zypper or rpm -e"
    };
    Err(
        Error::new(ErrorId::PackageOwned, format!("{BINARY} exists, and there is no install record of `install`"))
            .hint(format!(
                "to enrol and start it: monsys-agent enrol && systemctl enable --now monsys-agent; to remove it: {remove}"
            )),
    )
}

/// Refuses an installation whose enrolment would fail at once, before anything is changed.
///
/// # Errors
/// [`ErrorId::BadArguments`], [`ErrorId::TokenMissing`], and as
/// [`preview`](agent_core::enrolment::Dialect::preview).
pub(super) fn check_enrolment(options: &InstallOptions, environment: &Environment) -> Result<()> {
    let host = dialects::open(&options.flags, environment)?;
    if !host.has_service() {
        return Err(Error::new(
            ErrorId::BadArguments,
            "this dialect has a service program of its own: monsys-agent only enrols the host, and has no service to install",
        )
        .about("install")
        .hint("use instead: monsys-agent enrol, with the same options"));
    }
    if options.no_enrol || options.defer {
        return Ok(());
    }
    let settings = host.settings();
    // Before the token is fetched, its kind makes no difference to the checks of the preview.
    let token = settings.token.as_ref().map(|_| Kind::Enrolment);
    let facts = HostFacts::gather(settings, environment, &Target::literal(settings));
    host.preview(token, options.force, &facts)?;
    if settings.token.is_some() || !host.takes_secret(options.force)? {
        return Ok(());
    }
    let cause = if host.is_enrolled()? {
        "an enrolment of this host was interrupted, so its credential may not be valid any more, and there is no MONSYS_TOKEN, --token-file or --token-command"
    } else {
        "this host is not enrolled, and there is no MONSYS_TOKEN, --token-file or --token-command"
    };
    let missing = Error::new(ErrorId::TokenMissing, cause);
    Err(if environment.env("SUDO_USER").is_some() {
        missing.hint(format!(
            "sudo removes variables from the environment; name those to keep: {}",
            sudo_line("install", environment)
        ))
    } else {
        missing
    })
}

/// Refuses another user than root, unless `--root` names a folder.
///
/// # Errors
/// [`ErrorId::NeedsRoot`].
pub(super) fn require_root(command: &str, environment: &Environment) -> Result<()> {
    if !environment.is_live() || nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let uid = nix::unistd::geteuid();
    Err(Error::new(
        ErrorId::NeedsRoot,
        format!("the command runs as user {uid}"),
    )
    .hint(format!("run: {}", sudo_line(command, environment))))
}

/// Returns the command line with sudo. It names the variables, because some policies ignore `-E`
/// (sudoers(5), `SETENV`).
fn sudo_line(command: &str, environment: &Environment) -> String {
    let mut names = vec![SECRET_VARIABLE];
    names.extend(
        environment
            .child_environment()
            .filter_map(|(name, _)| name.to_str())
            .filter(|name| {
                let mut proxy = table::PROXY
                    .variables
                    .iter()
                    .chain(table::NO_PROXY.variables);
                name.starts_with("MONSYS_") || proxy.any(|variable| variable == name)
            }),
    );
    format!(
        "sudo --preserve-env={} monsys-agent {command}",
        names.join(",")
    )
}
