//! A copy of the hub's CA, for a CA file that root must not obey: one in an operator's home, for instance.
//!
//! What an operator types counts for that run. What the configuration then names is read by every later
//! command of root's, so it has to be a file that nobody else can write (contract, section 5).

use std::path::{Path, PathBuf};

use crate::environment::Environment;
use crate::error::{ErrorId, Result};
use crate::settings::Settings;
use crate::store::{atomic, unwritable};

/// Name of the copy, beside the configuration.
pub const CA_COPY: &str = "hub-ca.pem";

/// Where the copy is in `folder`, if this run's CA file needs one.
pub fn place(settings: &Settings, folder: &Path, environment: &Environment) -> Option<PathBuf> {
    let given = settings.ca_file.as_ref()?;
    let is_needed = given.source.is_explicit()
        && !given.is_pipe()
        && environment.refuse_foreign_file(&given.value).is_err();
    is_needed.then(|| folder.join(CA_COPY))
}

/// Makes the copy, if this run's CA file needs one.
///
/// # Errors
/// [`ErrorId::Unreadable`], [`ErrorId::ConfigUnwritable`].
pub fn make(settings: &Settings, folder: &Path, environment: &Environment) -> Result<()> {
    let (Some(place), Some(given)) = (place(settings, folder, environment), &settings.ca_file)
    else {
        return Ok(());
    };
    let bytes = given.read(settings.wait)?;
    let grant = environment.access().public();
    atomic::write(&place, &bytes, grant.mode, grant.owner)
        .map_err(|error| unwritable(ErrorId::ConfigUnwritable, &place, &error))?;
    tracing::info!(
        "others can write {}, so the configuration names a copy: {}",
        given.value.display(),
        place.display()
    );
    Ok(())
}
