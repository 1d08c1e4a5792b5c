//! A copy of the hub's CA, for a CA file that root must not obey, for instance in an operator's home.
//!
//! A file that an operator names on the command line counts for that run. Every later command of root reads
//! the file that the configuration names, so only root may write that file (contract, section 5).

use std::path::{Path, PathBuf};

use crate::environment::Environment;
use crate::error::{ErrorId, Result};
use crate::settings::Settings;
use crate::store::proof::Target;
use crate::store::{atomic, named, unwritable};

/// File name of the copy, beside the configuration.
pub const CA_COPY: &str = "hub-ca.pem";

/// Returns the path of the copy in `folder`, if this run's CA file needs a copy.
pub fn place(settings: &Settings, folder: &Path, environment: &Environment) -> Option<PathBuf> {
    let ca_file = settings.ca_file.as_ref()?;
    let is_needed = ca_file.source.is_explicit()
        && !ca_file.is_pipe()
        && environment.refuse_foreign_file(&ca_file.value).is_err();
    is_needed.then(|| folder.join(CA_COPY))
}

/// Returns the copy as the target of a write, if this run's CA file needs a copy.
pub fn target(settings: &Settings, folder: &Path, environment: &Environment) -> Option<Target> {
    let path = place(settings, folder, environment)?;
    let ca_file = settings.ca_file.as_ref()?;
    let size = std::fs::metadata(&ca_file.value).map_or(0, |metadata| metadata.len());
    Some(Target {
        path,
        grant: environment.access().public(),
        room: usize::try_from(size).unwrap_or_default(),
        error_id: ErrorId::ConfigUnwritable,
    })
}

/// Writes the copy, if this run's CA file needs a copy and the copy has another content. Returns whether it was
/// written.
///
/// # Errors
/// [`ErrorId::Unreadable`], [`ErrorId::ConfigUnwritable`].
pub fn make(settings: &Settings, folder: &Path, environment: &Environment) -> Result<bool> {
    let (Some(place), Some(ca_file)) = (place(settings, folder, environment), &settings.ca_file)
    else {
        return Ok(false);
    };
    let bytes = ca_file.read(settings.wait.value)?;
    if named::regular(&place).is_ok_and(|copy| copy == bytes) {
        return Ok(false);
    }
    let grant = environment.access().public();
    atomic::write(&place, &bytes, grant.mode, grant.owner)
        .map_err(|error| unwritable(ErrorId::ConfigUnwritable, &place, &error))?;
    tracing::info!(
        "other users can write {}, so the configuration names a copy: {}",
        ca_file.value.display(),
        place.display()
    );
    Ok(true)
}
