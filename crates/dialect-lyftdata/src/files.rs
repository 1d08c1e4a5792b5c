//! What a worker has on its disk: two files, and a journal while they are not both there.

use std::io::ErrorKind::{NotADirectory, NotFound};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::lyftdata::Lyftdata;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::store::atomic::{self, Owner};
use agent_core::store::{lock, safe_read, unreadable, unwritable};

/// File of the worker's id, in the jobs directory.
pub(crate) const ID_FILE: &str = "LYFTDATA_WORKER_ID";
/// File of its API key.
const KEY_FILE: &str = ".LYFTDATA_WORKER_API_KEY";
/// What is asked for, or confirmed and not yet in its files.
pub(crate) const JOURNAL: &str = ".monsys-enrol.json";
pub(crate) const LOCK: &str = lock::DIALECT_FILE;

/// What the journal holds.
#[derive(Serialize, Deserialize)]
pub(crate) struct PendingEnrolment {
    /// The name that was asked for.
    pub(crate) name: String,
    /// When, RFC 3339.
    pub(crate) asked_at: String,
    /// What the server has confirmed for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) confirmed: Option<Worker>,
}

/// A worker: what the server answers, and what the two files hold.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Worker {
    #[serde(rename = "worker")]
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) api_key: Zeroizing<String>,
}

/// Where this host stands.
pub(crate) enum EnrolmentState {
    /// Neither file is there.
    New,
    /// The server has confirmed it, and not all of its files are there.
    Unfinished,
    /// Both are, with this id.
    Enrolled(String),
}

impl Lyftdata<'_> {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.jobs_dir.join(name)
    }

    pub(crate) fn file(&self, name: &str) -> Result<Option<String>> {
        let path = self.path(name);
        match safe_read::foreign_text(&path) {
            Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(None),
            Err(error) => Err(unreadable(&path, &error)),
        }
    }

    /// A broken journal is none: it is only a note until something is confirmed, and then whole.
    pub(crate) fn journal(&self) -> Result<Option<PendingEnrolment>> {
        let text = self.file(JOURNAL)?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    pub(crate) fn enrolment_state(&self) -> Result<EnrolmentState> {
        let is_confirmed = |journal: &PendingEnrolment| journal.confirmed.is_some();
        match (self.file(ID_FILE)?, self.file(KEY_FILE)?) {
            _ if self.journal()?.as_ref().is_some_and(is_confirmed) => {
                Ok(EnrolmentState::Unfinished)
            }
            (Some(worker), Some(_)) => Ok(EnrolmentState::Enrolled(worker)),
            (None, None) => Ok(EnrolmentState::New),
            (id, _) => {
                let (there, missing) = match id {
                    Some(_) => (ID_FILE, KEY_FILE),
                    None => (KEY_FILE, ID_FILE),
                };
                let (id, key) = (self.path(ID_FILE), self.path(KEY_FILE));
                Err(Error::new(
                    ErrorId::CredentialIncomplete,
                    format!("{there} is there, and {missing}, which belongs to it, is not"),
                )
                .about(self.jobs_dir.display())
                .hint(format!(
                    "put it back; or enrol anew, under a name that the server does not know: rm -f {} {}",
                    id.display(),
                    key.display()
                )))
            }
        }
    }

    pub(crate) fn owner(&self) -> Result<Owner> {
        Owner::of(&self.jobs_dir).map_err(|error| self.fault(&error))
    }

    pub(crate) fn fault(&self, error: &std::io::Error) -> Error {
        unwritable(ErrorId::StateUnwritable, &self.jobs_dir, error)
    }

    pub(crate) fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        atomic::write(&self.path(name), bytes, 0o600, self.owner()?)
            .map_err(|error| self.fault(&error))
    }

    pub(crate) fn note(&self, journal: &PendingEnrolment) -> Result<()> {
        let bytes = Zeroizing::new(serde_json::to_vec(journal).unwrap_or_default());
        self.put(JOURNAL, &bytes)
    }

    pub(crate) fn forget(&self) -> Result<()> {
        atomic::remove(&self.path(JOURNAL)).map_err(|error| self.fault(&error))
    }

    /// Puts what the server has confirmed into its files.
    pub(crate) fn finish(&self, worker: &Worker) -> Result<()> {
        self.put(KEY_FILE, worker.api_key.as_bytes())?;
        self.put(ID_FILE, worker.id.as_bytes())?;
        self.forget()
    }

    pub(crate) fn has_leftovers(&self) -> bool {
        let names = std::fs::read_dir(&self.jobs_dir).into_iter().flatten();
        let mut names = names.flatten().map(|entry| entry.file_name());
        names.any(|name| {
            let name = name.to_string_lossy();
            name == JOURNAL || atomic::is_temporary(&name)
        })
    }
}
