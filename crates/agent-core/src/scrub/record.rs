//! What a host remembers of its scrubs, so that the next start of its service can scrub again without the
//! secret: cloud-init may have written its copies anew.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Hashed, Stamp, Wanted};
use crate::error::{ErrorId, Result};
use crate::store::access::Grant;
use crate::store::{atomic, safe_read, unwritable};

/// Name of the file, in the folder of the host's state. Only root reads it.
pub const FILE: &str = ".monsys-scrub.json";
/// Of so many clean files it is remembered that they need not be searched again.
const MOST_STAMPS: usize = 4096;
/// Secrets that a host has had.
const MOST_SECRETS: usize = 16;

/// The record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Secrets that have no form of their own.
    pub secrets: Vec<Hashed>,
    /// Anything that has the form of an enrolment token counts.
    pub tokens: bool,
    /// Files that were clean, in this state.
    pub clean: BTreeSet<Stamp>,
}

impl Record {
    /// The record in `folder`; none when no scrub was asked for. One that cannot be read counts as one that
    /// knows of nothing that is clean: cleaning up stops nothing.
    #[must_use]
    pub fn load(folder: &Path) -> Option<Self> {
        match safe_read::own(&path(folder)) {
            Ok(bytes) => Some(serde_json::from_slice(&bytes).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!("{}: {error}", path(folder).display());
                None
            }
        }
    }

    /// Writes it, if it has changed.
    ///
    /// # Errors
    /// [`ErrorId::StateUnwritable`].
    pub fn save(mut self, folder: &Path, grant: Grant) -> Result<()> {
        while self.clean.len() > MOST_STAMPS {
            self.clean.pop_first();
        }
        let excess = self.secrets.len().saturating_sub(MOST_SECRETS);
        self.secrets.drain(..excess);
        if Self::load(folder).as_ref() == Some(&self) {
            return Ok(());
        }
        let path = path(folder);
        let bytes = serde_json::to_vec(&self).unwrap_or_default();
        atomic::write(&path, &bytes, grant.mode, grant.owner)
            .map_err(|error| unwritable(ErrorId::StateUnwritable, &path, &error))
    }

    /// What is to be looked for.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        let wanted = if self.tokens {
            Wanted::any_token()
        } else {
            Wanted::default()
        };
        let secrets = self.secrets.iter().cloned();
        secrets.fold(wanted, Wanted::and_hashed)
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join(FILE)
}
