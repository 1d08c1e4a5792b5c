//! Taking back all that `install` did, by its receipt.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use tokio::time::Instant;

use super::checks::{refuse_package, require_root};
use super::receipt::{Deed, FOLDER, Receipt};
use super::service::Manager;
use super::system::System;
use super::take_back::{Fate, take_back};
use super::{enrolment_paths, look, unwritable};
use crate::dialect::monsys::{self, HostFiles};
use crate::error::Result;
use crate::settings::Flags;
use crate::store::atomic;
use crate::store::lock::Lock;
use crate::store::names;
use crate::world::World;

/// What the service and its privileged step have in memory.
const RUNNING: [&str; 2] = ["/run/monsys", "/run/monsys-step"];
/// How long another installation is waited for.
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(5);

/// What an uninstallation came to.
pub struct Uninstalled {
    /// What was removed or taken back, for people.
    pub taken: Vec<String>,
    /// What stays, and why.
    pub left: Vec<(String, String)>,
    /// What makes this host itself, and was not asked to be removed.
    pub kept: Vec<PathBuf>,
    /// This host was an agent of a hub, and now knows nothing of it.
    pub forgets_agent: bool,
}

/// Removes what the service and its privileged step have in memory. The service's user may have put
/// anything there: what cannot be removed goes at the next boot, and stops nothing.
fn remove_running(world: &World) {
    for folder in RUNNING.map(|folder| world.resolved_path(folder)) {
        let names = names(&folder).unwrap_or_default();
        let is_own = |name: &&OsString| {
            let name = name.to_string_lossy();
            name.ends_with(".json") || name == "boot_id" || atomic::is_temporary(&name)
        };
        let removed = names
            .iter()
            .filter(is_own)
            .map(|name| atomic::remove(&folder.join(name)));
        for error in removed
            .chain([atomic::remove_folder(&folder)])
            .filter_map(io::Result::err)
        {
            tracing::debug!("{}: {error}", folder.display());
        }
    }
}

/// Takes back what `install` did. `purge` also removes agent.toml, the host's key and its state.
///
/// # Errors
/// [`crate::error::ErrorId::NeedsRoot`], [`crate::error::ErrorId::PackageOwned`],
/// [`crate::error::ErrorId::ReceiptBroken`], and what stands in the way.
pub async fn uninstall(flags: &Flags, purge: bool, world: &World) -> Result<Uninstalled> {
    require_root("uninstall", world)?;
    let turn = Lock::take_folder(world.root(), Instant::now() + PATIENCE).await?;
    // Another user could have put a record there. `install` takes such a folder over.
    world.refuse_foreign_folder(&world.resolved_path(FOLDER))?;
    let mut receipt = Receipt::load(world)?;
    refuse_package(&receipt, world)?;
    let system = System::of(world);
    let manager = Manager::of(world).filter(|manager| manager.runs(world));
    let has_service = |receipt: &Receipt| {
        receipt.done.iter().any(|deed| {
            matches!(deed, Deed::PutFile { path, .. } if path.starts_with("/etc/systemd") || path.starts_with("/etc/init.d"))
        })
    };
    let stops = manager.filter(|_| has_service(&receipt));
    if let Some(manager) = stops {
        manager.stop(&system).await?;
    }

    let mut uninstalled = Uninstalled {
        taken: Vec::new(),
        left: Vec::new(),
        kept: Vec::new(),
        forgets_agent: false,
    };
    let (config, state_dir) = enrolment_paths(flags, world);
    let HostFiles { ours, others } = monsys::files(&config, &state_dir)?;
    if purge {
        for path in others {
            let why = "it is not what the agent writes there".to_owned();
            uninstalled.left.push((path.display().to_string(), why));
        }
        uninstalled.forgets_agent = ours.iter().any(|path| path.ends_with("agent-id"));
        for path in ours {
            atomic::remove(&path).map_err(|error| unwritable(&path, &error))?;
            uninstalled.taken.push(path.display().to_string());
        }
    } else {
        look::unshare(&ours, world)?;
        uninstalled.kept = ours;
    }
    remove_running(world);
    for deed in receipt.done.clone().into_iter().rev() {
        match take_back(&deed, purge, world, &system).await {
            Fate::Taken => uninstalled.taken.push(deed.to_string()),
            Fate::Gone => {}
            Fate::Left(why) => {
                uninstalled.left.push((deed.to_string(), why));
                continue;
            }
        }
        receipt.forget(&deed);
        receipt
            .save(world)
            .map_err(|error| unwritable(&world.path(super::RECEIPT), &error))?;
    }
    if purge {
        // An enrolment without an installation made them.
        for folder in [Some(state_dir.as_path()), config.parent()]
            .into_iter()
            .flatten()
        {
            drop(atomic::remove_folder(folder));
        }
    }
    if let Some(manager) = stops {
        manager.forget(&system).await?;
    }
    drop(turn);
    Ok(uninstalled)
}
