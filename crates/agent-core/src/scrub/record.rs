//! The record of a host's scrubs. With it, the next start of the service can scrub again without the
//! secret: cloud-init may have written its copies again.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Hashed, SecretMatcher, Stamp};
use crate::error::{ErrorId, Result};
use crate::store::access::Grant;
use crate::store::{atomic, safe_read, unwritable};

/// Name of the file, in the state folder of the host. Only root reads the file.
pub const FILE: &str = ".monsys-scrub.json";
/// The number of clean files that are recorded.
const MOST_STAMPS: usize = 4096;
/// The number of secrets that are recorded.
const MOST_SECRETS: usize = 16;

/// The record of a host's scrubs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Secrets without a known form.
    pub secrets: Vec<Hashed>,
    /// True when any text with the form of an enrolment token counts.
    pub tokens: bool,
    /// Clean files, in the state in which they were searched.
    pub clean: BTreeSet<Stamp>,
}

impl Record {
    /// Reads the record in `folder`; `None` when no scrub was requested. A broken record counts as empty,
    /// and an unreadable record as missing: the secret cleanup never stops an enrolment.
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

    /// Writes the record, if it has changed.
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

    /// Returns the matcher of all recorded secrets.
    #[must_use]
    pub fn matcher(&self) -> SecretMatcher {
        let matcher = if self.tokens {
            SecretMatcher::any_token()
        } else {
            SecretMatcher::default()
        };
        let secrets = self.secrets.iter().cloned();
        secrets.fold(matcher, SecretMatcher::and_hashed)
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join(FILE)
}
