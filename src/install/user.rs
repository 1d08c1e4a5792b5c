//! The user that the service runs as.

use super::receipt::FOLDER;
use super::system::System;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::store::access::GROUP;
use agent_core::store::atomic::Owner;
use agent_core::store::passwd;

/// Name of the user, and of its group.
pub const USER: &str = GROUP;

/// What systemd-sysusers is told; packages bring the same as a file.
const SYSUSERS: &str = include_str!("../../packaging/systemd/monsys-agent.sysusers");

/// The user's ids, if the host has the user.
pub(super) fn find(environment: &Environment) -> Option<Owner> {
    let (uid, gid) = passwd::find(&environment.resolved_path("/etc/passwd"), USER)?;
    Some(Owner::new(uid, gid))
}

/// Makes the user, by what the host has for it.
pub(super) async fn make(system: &System<'_>) -> Result<()> {
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
        "there is neither systemd-sysusers nor useradd nor adduser",
    )
    .about(format!("making the user {USER}"))
    .hint(format!(
        "make the system user and group {USER} by hand, and run the same command again"
    )))
}

/// Removes the user and its group.
pub(super) async fn remove(system: &System<'_>) -> Result<()> {
    let (user, group) = if system.has("userdel") {
        ("userdel", "groupdel")
    } else {
        ("deluser", "delgroup")
    };
    system.run(user, &[USER]).await?;
    // Most often the group goes with its user; what is left of it is no harm.
    if system.has(group) {
        drop(system.ask(group, &[USER]).await);
    }
    Ok(())
}
