//! Taking back all that `install` did, by its receipt.

use std::path::PathBuf;

use tokio::time::Instant;

use super::checks::{refuse_package, require_root};
use super::receipt::{Deed, Receipt};
use super::service::Manager;
use super::system::System;
use super::take_back::{Fate, take_back};
use super::{enrolment_paths, unwritable};
use crate::dialect::monsys;
use crate::error::Result;
use crate::settings::Flags;
use crate::store::atomic;
use crate::store::lock::Lock;
use crate::world::World;

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

/// Takes back what `install` did. `purge` also removes agent.toml, the host's key and its state.
///
/// # Errors
/// [`crate::error::ErrorId::NeedsRoot`], [`crate::error::ErrorId::PackageOwned`],
/// [`crate::error::ErrorId::ReceiptBroken`], and what stands in the way.
pub async fn uninstall(flags: &Flags, purge: bool, world: &World) -> Result<Uninstalled> {
    require_root("uninstall", world)?;
    let turn = Lock::take_folder(world.root(), Instant::now() + PATIENCE).await?;
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
    let files = monsys::files(&config, &state_dir)?;
    if purge {
        uninstalled.forgets_agent = files.iter().any(|path| path.ends_with("agent-id"));
        for path in files {
            atomic::remove(&path).map_err(|error| unwritable(&path, &error))?;
            uninstalled.taken.push(path.display().to_string());
        }
    } else {
        uninstalled.kept = files;
    }
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
