//! The files of a worker: its id, its API key, and the record of an open request.

use std::io::ErrorKind::{NotADirectory, NotFound};
use std::path::{Path, PathBuf};

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
/// File of the request that enrolled the worker: its server, name and id.
pub(crate) const RECORD_FILE: &str = ".monsys-worker.json";
/// Permission bits of the files.
const MODE: u32 = 0o600;
/// Name of the lock, in the jobs directory.
pub(crate) const LOCK: &str = lock::DIALECT_FILE;

/// The record of a request: of an open one, of one whose worker is confirmed and not in its files yet, or of
/// the one that enrolled the worker.
#[derive(Serialize, Deserialize)]
pub(crate) struct RequestRecord {
    /// The worker's name in the request.
    pub(crate) name: String,
    /// Time at which the request was sent, RFC 3339.
    #[serde(rename = "asked_at")]
    pub(crate) sent_at: String,
    /// URL of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hub_url: Option<String>,
    /// The worker's id: the requested one, and after the enrolment the one in the server's response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) worker: Option<String>,
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
        read(&self.path(name))
    }

    /// Reads the record of the open request. Returns `None` for a broken record, which costs only the
    /// explanation of a lost response: a record with a confirmed worker is written atomically.
    ///
    /// # Errors
    /// [`ErrorId::Unreadable`].
    pub(crate) fn pending_request(&self) -> Result<Option<RequestRecord>> {
        read_record(&self.path(PENDING_REQUEST))
    }

    /// Reads the record of the request that enrolled the worker `id`. Returns `None` when the files of the
    /// worker are of another request.
    ///
    /// # Errors
    /// [`ErrorId::Unreadable`].
    pub(crate) fn record_of(&self, id: &str) -> Result<Option<RequestRecord>> {
        let record = read_record(&self.path(RECORD_FILE))?;
        Ok(record.filter(|record| record.worker.as_deref() == Some(id)))
    }

    /// Refuses a run whose settings name another server, name or id than those of the enrolled worker `id`.
    ///
    /// # Errors
    /// [`ErrorId::OtherHub`] and [`ErrorId::BadSetting`].
    pub(crate) fn refuse_other_worker(&self, id: &str) -> Result<()> {
        let record = self.record_of(id)?;
        let record = record.as_ref();
        let again = format!(
            "to enrol it again, run the same command with the secret after: rm -f {} {}",
            self.path(ID_FILE).display(),
            self.path(KEY_FILE).display()
        );
        let url = self.hub_url();
        if let (Some(own), Some(url)) = (record.and_then(|record| record.hub_url.as_ref()), url)
            && *own != url
        {
            return Err(Error::new(
                ErrorId::OtherHub,
                format!("the worker was enrolled at {own}"),
            )
            .about(url)
            .hint(format!(
                "to keep the worker: do not set LYFTDATA_URL, or, if that is the same server, rm {}; {again}",
                self.path(RECORD_FILE).display()
            )));
        }
        for (own, set, source) in [
            (Some(id), &self.worker, "LYFTDATA_WORKER_ID"),
            (
                record.map(|record| record.name.as_str()),
                &self.name,
                "LYFTDATA_WORKER_NAME",
            ),
        ] {
            if let (Some(own), Some(set)) = (own, set)
                && own != set
            {
                return Err(Error::new(
                    ErrorId::BadSetting,
                    format!("it is {set:?}, and the enrolled worker's is {own:?}"),
                )
                .about(source)
                .hint(format!("to keep the worker: set {source}={own}; {again}")));
            }
        }
        Ok(())
    }

    /// Returns the enrolment state.
    ///
    /// # Errors
    /// [`ErrorId::CredentialIncomplete`] when only one of the two files exists, and [`ErrorId::Unreadable`].
    pub(crate) fn enrolment_state(&self) -> Result<EnrolmentState> {
        let is_confirmed = |pending: &RequestRecord| pending.confirmed.is_some();
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
                    "restore the missing file; or enrol a new worker by the same command with the secret, after: rm -f {} {}",
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
        Ok([PENDING_REQUEST, RECORD_FILE, KEY_FILE, ID_FILE]
            .map(target)
            .into())
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
    pub(crate) fn save_pending_request(&self, pending: &RequestRecord) -> Result<()> {
        self.write_record(PENDING_REQUEST, pending)
    }

    fn write_record(&self, name: &str, record: &RequestRecord) -> Result<()> {
        let bytes = Zeroizing::new(serde_json::to_vec(record).unwrap_or_default());
        self.write(name, &bytes)
    }

    /// Removes the record of the open request.
    pub(crate) fn remove_pending_request(&self) -> Result<()> {
        atomic::remove(&self.path(PENDING_REQUEST)).map_err(|error| self.write_error(&error))
    }

    /// Writes the files of the confirmed worker of `pending`, and removes the record of the open request.
    pub(crate) fn finish(&self, pending: RequestRecord) -> Result<()> {
        let Some(worker) = pending.confirmed else {
            return Ok(());
        };
        let record = RequestRecord {
            worker: Some(worker.id.clone()),
            confirmed: None,
            ..pending
        };
        self.write_record(RECORD_FILE, &record)?;
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

/// Reads a record. Returns `None` for a broken one.
///
/// # Errors
/// [`ErrorId::Unreadable`].
fn read_record(path: &Path) -> Result<Option<RequestRecord>> {
    Ok(read(path)?.and_then(|text| serde_json::from_str(&text).ok()))
}

fn read(path: &Path) -> Result<Option<String>> {
    match safe_read::foreign_text(path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(None),
        Err(error) => Err(unreadable(path, &error)),
    }
}
