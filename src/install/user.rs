//! The user that the service runs as.

use super::record::FOLDER;
use super::system_commands::SystemCommands;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::store::access::{self, GROUP};
use agent_core::store::atomic::Owner;
use agent_core::store::passwd;

/// The name of the user, and of its group.
pub const USER: &str = GROUP;

/// The input of systemd-sysusers(8), which packages install as a file.
const SYSUSERS: &str = include_str!("../../packaging/systemd/monsys-agent.sysusers");

/// Returns the ids of the user and its group, if the host has the user.
pub(super) fn find(environment: &Environment) -> Option<Owner> {
    let (uid, gid) = passwd::find(&environment.resolved_path("/etc/passwd"), USER)?;
    Some(Owner::new(uid, gid))
}

/// Checks a user that this host has already: the service runs as that user, with the group of the same name.
///
/// # Errors
/// [`ErrorId::NotInstallable`] if the user is root, or if there is no such group.
pub(super) fn check(environment: &Environment) -> Result<()> {
    let Some(user) = find(environment) else {
        return Ok(());
    };
    let fail = |cause: String, hint: String| {
        Err(Error::new(ErrorId::NotInstallable, cause)
            .about(format!("the user {USER}"))
            .hint(hint))
    };
    if user.is_root() {
        return fail(
            "its uid is 0, so the service would run as root".into(),
            format!("give {USER} another uid in /etc/passwd, and run the same command again"),
        );
    }
    if !has_group(environment) {
        return fail(
            format!("the host has the user, and no group {USER}, which the service needs"),
            format!(
                "groupadd --system {USER}, or addgroup -S {USER}; then run the same command again"
            ),
        );
    }
    Ok(())
}

/// Checks that the user and its group exist after [`make`].
///
/// # Errors
/// [`ErrorId::NotInstallable`], if the commands of the host know the user from another source than
/// passwd(5), such as LDAP, and so did not make it.
pub(super) fn check_made(environment: &Environment) -> Result<()> {
    if find(environment).is_some() && has_group(environment) {
        return Ok(());
    }
    let cause = format!(
        "/etc/passwd and /etc/group do not have {USER}, although the command that makes it succeeded: the host knows a user of that name from another source, such as LDAP"
    );
    Err(Error::new(ErrorId::NotInstallable, cause)
        .about(format!("the user {USER}"))
        .hint(format!(
            "copy the user: getent passwd {USER} >> /etc/passwd; getent group {USER} >> /etc/group; then run the same command again"
        )))
}

/// Returns the id of the user's group, if the host has it.
pub(super) fn group(environment: &Environment) -> Option<u32> {
    access::group_in(&environment.resolved_path("/etc/group"))
}

/// Returns whether the host has the user's group.
pub(super) fn has_group(environment: &Environment) -> bool {
    group(environment).is_some()
}

/// Makes what the host does not have of the user and its group, with the first suitable command of the host.
pub(super) async fn make(system: &SystemCommands<'_>, environment: &Environment) -> Result<()> {
    const NOLOGIN: &str = "/sbin/nologin";
    if system.has("systemd-sysusers") {
        let lines = SYSUSERS.lines().filter(|line| !line.starts_with('#'));
        let arguments: Vec<&str> = std::iter::once("--inline").chain(lines).collect();
        return system.run("systemd-sysusers", &arguments).await;
    }
    let has_user = find(environment).is_some();
    if system.has("useradd") && has_user {
        return system.run("groupadd", &["--system", USER]).await;
    }
    if system.has("useradd") {
        let home = ["--home-dir", FOLDER, "--no-create-home"];
        // `--user-group` is an error for a group that exists (useradd(8)).
        let group: &[&str] = if has_group(environment) {
            &["--gid", USER]
        } else {
            &["--user-group"]
        };
        let arguments = [
            &["--system", "--shell", NOLOGIN][..],
            group,
            &home,
            &["--comment", "monsys agent", USER],
        ];
        return system.run("useradd", &arguments.concat()).await;
    }
    if system.has("adduser") && system.has("addgroup") {
        if !has_group(environment) {
            system.run("addgroup", &["-S", USER]).await?;
        }
        if has_user {
            return Ok(());
        }
        let home = ["-h", FOLDER, "-H", "-s", NOLOGIN];
        let arguments = [
            &["-S", "-D"][..],
            &home,
            &["-G", USER, "-g", "monsys agent", USER],
        ];
        return system.run("adduser", &arguments.concat()).await;
    }
    Err(Error::new(
        ErrorId::SystemCommand,
        "the host has none of systemd-sysusers, useradd and adduser",
    )
    .about(format!("making the user {USER}"))
    .hint(format!(
        "make the system user and group {USER} by hand, and run the same command again"
    )))
}

/// Removes the user, and its group unless it existed before with the id `kept`.
pub(super) async fn remove(
    system: &SystemCommands<'_>,
    environment: &Environment,
    kept: Option<u32>,
) -> Result<()> {
    let (user, group) = if system.has("userdel") {
        ("userdel", "groupdel")
    } else {
        ("deluser", "delgroup")
    };
    if find(environment).is_some() {
        system.run(user, &[USER]).await?;
    }
    match kept.map(|id| id.to_string()) {
        // userdel(8) removes a group of the user's name without members, also an older one.
        Some(id) if !has_group(environment) => {
            if system.has("groupadd") {
                let arguments = ["--system", "--gid", &id, USER];
                return system.run("groupadd", &arguments).await;
            }
            system.run("addgroup", &["-S", "-g", &id, USER]).await
        }
        Some(_) => Ok(()),
        None => {
            // Usually the group is removed with its user, and a remaining group does no harm.
            if system.has(group) {
                drop(system.output(group, &[USER]).await);
            }
            Ok(())
        }
    }
}
