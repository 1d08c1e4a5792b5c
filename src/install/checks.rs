//! What is looked at before anything is planned: who runs it, whose the host's agent is, and whether
//! there is something to enrol with.

use super::Options;
use super::receipt::Receipt;
use crate::dialects;
use agent_core::environment::{Environment, SECRET_VARIABLE};
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::HostFacts;
use agent_core::facts::route::Target;
use agent_core::token::Kind;

/// Where a package has the program, and what dpkg knows of it.
const BINARY: &str = "/usr/bin/monsys-agent";
const DPKG: &str = "/var/lib/dpkg/info/monsys-agent.list";

/// Refuses a host whose agent came as a package, and not by `install`.
///
/// # Errors
/// [`ErrorId::PackageOwned`].
pub(super) fn refuse_package(receipt: &Receipt, environment: &Environment) -> Result<()> {
    if !receipt.done.is_empty() || !environment.resolved_path(BINARY).exists() {
        return Ok(());
    }
    let remove = if environment.resolved_path(DPKG).exists() {
        "apt-get remove monsys-agent"
    } else {
        "dnf remove monsys-agent, or zypper or rpm -e"
    };
    Err(
        Error::new(ErrorId::PackageOwned, format!("{BINARY} is there, and no receipt of `install`"))
            .hint(format!(
                "to enrol and start it: monsys-agent enrol && systemctl enable --now monsys-agent; to remove it: {remove}"
            )),
    )
}

/// What an enrolment would end with at once is told before anything is changed.
///
/// # Errors
/// [`ErrorId::TokenMissing`], and what [`dialect::Dialect::preview`] ends with.
pub(super) fn check_enrolment(options: &Options, environment: &Environment) -> Result<()> {
    let host = dialects::open(&options.flags, environment)?;
    if !host.has_service() {
        return Err(Error::new(
            ErrorId::BadArguments,
            "this system's service is a program of its own: monsys-agent enrols it, and has nothing to start",
        )
        .about("install")
        .hint("monsys-agent enrol, with the same options"));
    }
    if options.no_enrol || options.defer {
        return Ok(());
    }
    let settings = host.settings();
    // Its kind makes no difference to what can be told before it is fetched.
    let token = settings.token.as_ref().map(|_| Kind::Enrolment);
    let facts = HostFacts::gather(settings, environment, &Target::literal(settings));
    host.preview(token, options.force, &facts)?;
    if settings.token.is_some() || !host.takes_secret(options.force)? {
        return Ok(());
    }
    let cause = if host.is_enrolled()? {
        "an enrolment of this host was interrupted, so its credential may be dead, and there is no MONSYS_TOKEN, --token-file or --token-command"
    } else {
        "this host is not enrolled, and there is no MONSYS_TOKEN, --token-file or --token-command"
    };
    let missing = Error::new(ErrorId::TokenMissing, cause);
    Err(if environment.env("SUDO_USER").is_some() {
        missing.hint(format!(
            "sudo drops the environment unless it is told what to keep: {}",
            sudo_line("install", environment)
        ))
    } else {
        missing
    })
}

/// Refuses another user than root, unless it is about a tree of files.
///
/// # Errors
/// [`ErrorId::NeedsRoot`].
pub(super) fn require_root(command: &str, environment: &Environment) -> Result<()> {
    if !environment.is_live() || nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let uid = nix::unistd::geteuid();
    Err(
        Error::new(ErrorId::NeedsRoot, format!("this is user {uid}"))
            .hint(format!("run: {}", sudo_line(command, environment))),
    )
}

/// How to run it with sudo. The variables are named, since `-E` is ignored by some.
fn sudo_line(command: &str, environment: &Environment) -> String {
    let mut names = vec![SECRET_VARIABLE];
    names.extend(
        environment
            .child_environment()
            .filter_map(|(name, _)| name.to_str())
            .filter(|name| name.starts_with("MONSYS_") || *name == "HTTPS_PROXY"),
    );
    format!(
        "sudo --preserve-env={} monsys-agent {command}",
        names.join(",")
    )
}
