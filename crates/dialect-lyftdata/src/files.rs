//! The files of a worker: its id, its API key, and the record of an open request.

use std::io::ErrorKind::{NotADirectory, NotFound};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::lyftdata::Lyftdata;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::store::atomic::{self, Grant, Owner};
use agent_core::store::proof::Target;
use agent_core::store::{lock, safe_read, unreadable, unwritable};

/// File of the worker's id, in the jobs directory.
pub(crate) const ID_FILE: &str = "LYFTDATA_WORKER_ID";
/// File of its API key.
const KEY_FILE: &str = ".LYFTDATA_WORKER_API_KEY";
/// File of the open request, or of a worker that is confirmed and not in its files yet.
pub(crate) const PENDING_REQUEST: &str = ".monsys-enrol.json";
/// Permission bits of the files.
const MODE: u32 = 0o600;
/// Name of the lock, in the jobs directory.
pub(crate) const LOCK: &str = lock::DIALECT_FILE;

/// The record of an open request, or of a worker that is confirmed and not in its files yet.
#[derive(Serialize, Deserialize)]
pub(crate) struct PendingRequest {
    /// The worker's name in the request.
    pub(crate) name: String,
    /// Time at which the request was sent, RFC 3339.
    #[serde(rename = "asked_at")]
    pub(crate) sent_at: String,
    /// The worker in the server's response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) confirmed: Option<Worker>,
}

/// A worker, as the server's response has it. The two files hold its id and its API key.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Worker {
    #[serde(rename = "worker")]
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) api_key: Zeroizing<String>,
}

/// The enrolment state of this host.
pub(crate) enum EnrolmentState {
    /// There is no id and no API key.
    New,
    /// The server has confirmed the worker, and an interrupted run has not written all of its files.
    Unfinished,
    /// Both files exist, with this id.
    Enrolled(String),
}

impl Lyftdata<'_> {
    /// Returns the path of a file in the jobs directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.jobs_dir.join(name)
    }

    /// Reads a file of the jobs directory without the white space around it. Returns `None` for a missing or
    /// empty file.
    ///
    /// # Errors
    /// [`ErrorId::Unreadable`].
    pub(crate) fn file(&self, name: &str) -> Result<Option<String>> {
        let path = self.path(name);
        match safe_read::foreign_text(&path) {
            Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(None),
            Err(error) => Err(unreadable(&path, &error)),
        }
    }

    /// Reads the record of the open request. Returns `None` for a broken record, which costs only the
    /// explanation of a lost response: a record with a confirmed worker is written atomically.
    ///
    /// # Errors
    /// [`ErrorId::Unreadable`].
    pub(crate) fn pending_request(&self) -> Result<Option<PendingRequest>> {
        let text = self.file(PENDING_REQUEST)?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Returns the enrolment state.
    ///
    /// # Errors
    /// [`ErrorId::CredentialIncomplete`] when only one of the two files exists, and [`ErrorId::Unreadable`].
    pub(crate) fn enrolment_state(&self) -> Result<EnrolmentState> {
        let is_confirmed = |pending: &PendingRequest| pending.confirmed.is_some();
        match (self.file(ID_FILE)?, self.file(KEY_FILE)?) {
            _ if self.pending_request()?.as_ref().is_some_and(is_confirmed) => {
                Ok(EnrolmentState::Unfinished)
            }
            (Some(worker), Some(_)) => Ok(EnrolmentState::Enrolled(worker)),
            (None, None) => Ok(EnrolmentState::New),
            (id, _) => {
                let (existing, missing) = match id {
                    Some(_) => (ID_FILE, KEY_FILE),
                    None => (KEY_FILE, ID_FILE),
                };
                let (id, key) = (self.path(ID_FILE), self.path(KEY_FILE));
                Err(Error::new(
                    ErrorId::CredentialIncomplete,
                    format!("{existing} exists, and {missing}, which belongs to it, is missing"),
                )
                .about(self.jobs_dir.display())
                .hint(format!(
                    "restore the missing file; or enrol again under a name that the server does not know, after: rm -f {} {}",
                    id.display(),
                    key.display()
                )))
            }
        }
    }

    /// Returns the owner of the jobs directory, who owns its files too.
    ///
    /// # Errors
    /// A jobs directory that cannot be read.
    pub(crate) fn owner(&self) -> Result<Owner> {
        Owner::of(&self.jobs_dir).map_err(|error| self.write_error(&error))
    }

    /// Returns the files of a worker as the targets of a write.
    ///
    /// # Errors
    /// A jobs directory that cannot be read.
    pub(crate) fn credential_targets(&self) -> Result<Vec<Target>> {
        // A jobs directory that is missing gets the owner of this process.
        let owner = if self.jobs_dir.exists() {
            self.owner()?
        } else {
            Owner::ours()
        };
        let target = |name| Target {
            path: self.path(name),
            grant: Grant { owner, mode: MODE },
            room: 4 * 1024,
            error_id: ErrorId::JobsDirUnwritable,
        };
        Ok([PENDING_REQUEST, KEY_FILE, ID_FILE].map(target).into())
    }

    /// Returns the error of a write to the jobs directory.
    pub(crate) fn write_error(&self, error: &std::io::Error) -> Error {
        unwritable(ErrorId::JobsDirUnwritable, &self.jobs_dir, error)
    }

    /// Writes a file of the jobs directory.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        atomic::write(&self.path(name), bytes, MODE, self.owner()?)
            .map_err(|error| self.write_error(&error))
    }

    /// Writes the record of the open request.
    pub(crate) fn save_pending_request(&self, pending: &PendingRequest) -> Result<()> {
        let bytes = Zeroizing::new(serde_json::to_vec(pending).unwrap_or_default());
        self.write(PENDING_REQUEST, &bytes)
    }

    /// Removes the record of the open request.
    pub(crate) fn remove_pending_request(&self) -> Result<()> {
        atomic::remove(&self.path(PENDING_REQUEST)).map_err(|error| self.write_error(&error))
    }

    /// Writes the files of a confirmed worker, and removes the record.
    pub(crate) fn finish(&self, worker: &Worker) -> Result<()> {
        self.write(KEY_FILE, worker.api_key.as_bytes())?;
        self.write(ID_FILE, worker.id.as_bytes())?;
        self.remove_pending_request()
    }

    /// Returns whether a killed run left a record or a temporary file.
    pub(crate) fn has_remains(&self) -> bool {
        let names = std::fs::read_dir(&self.jobs_dir).into_iter().flatten();
        let mut names = names.flatten().map(|entry| entry.file_name());
        names.any(|name| {
            let name = name.to_string_lossy();
            name == PENDING_REQUEST || atomic::is_temporary(&name)
        })
    }
}
