//! The user that the service runs as.

use super::receipt::FOLDER;
use super::system_commands::SystemCommands;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::store::access::GROUP;
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

/// Makes the user and its group, with the first suitable command of the host.
pub(super) async fn make(system: &SystemCommands<'_>) -> Result<()> {
    const NOLOGIN: &str = "/sbin/nologin";
    if system.has("systemd-sysusers") {
        let lines = SYSUSERS.lines().filter(|line| !line.starts_with('#'));
        let arguments: Vec<&str> = std::iter::once("--inline").chain(lines).collect();
        return system.run("systemd-sysusers", &arguments).await;
    }
    if system.has("useradd") {
        let home = ["--home-dir", FOLDER, "--no-create-home"];
        let arguments = [
            &["--system", "--user-group", "--shell", NOLOGIN][..],
            &home,
            &["--comment", "monsys agent", USER],
        ];
        return system.run("useradd", &arguments.concat()).await;
    }
    if system.has("adduser") && system.has("addgroup") {
        system.run("addgroup", &["-S", USER]).await?;
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

/// Removes the user and its group.
pub(super) async fn remove(system: &SystemCommands<'_>) -> Result<()> {
    let (user, group) = if system.has("userdel") {
        ("userdel", "groupdel")
    } else {
        ("deluser", "delgroup")
    };
    system.run(user, &[USER]).await?;
    // Usually the group is removed with its user, and a remaining group does no harm.
    if system.has(group) {
        drop(system.output(group, &[USER]).await);
    }
    Ok(())
}
