//! The state of this host, from the files in Mimir's folder: new, unproved, enrolled, expired, or a clone.

use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::certificate::Certificate;
use crate::key::HostKey;
use agent_core::clock;
use agent_core::enrolment::step_record_in;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::fingerprint::Fingerprint;
use agent_core::service::step;
use agent_core::store::key_files::{CA, CERTIFICATE, KEY, KeyFiles, NEXT_KEY};

/// Name of the record, beside the key and the certificate.
pub(crate) const RECORD_FILE: &str = "agent.json";

/// Name of the certificate request of an open enrolment. All tries send the same request, also those of later
/// runs, for a server that recognises a host by it.
pub(crate) const REQUEST_FILE: &str = "client.csr";

/// The record of an enrolment, beside key and certificate.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Record {
    /// The server that issued the certificate.
    pub(crate) server_url: Option<String>,
    /// The server's id of this host.
    pub(crate) agent_id: Option<String>,
    /// Host name that the server got.
    pub(crate) hostname: Option<String>,
    /// Time at which the certificate was first proved, RFC 3339. `None` before that.
    pub(crate) enrolled_at: Option<String>,
    /// The CA file that the service needs to reach the same server.
    pub(crate) ca_file: Option<PathBuf>,
    /// The pin of the CA that the service needs to reach the same server.
    pub(crate) ca_pin: Option<String>,
    /// The server does not have the call that proves a certificate, which no document of Mimir names.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) lacks_self_call: bool,
    /// The machine that the key was made on.
    pub(crate) machine: Fingerprint,
}

/// The enrolment state of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EnrolmentState {
    /// There is no certificate for the host's key, or no key.
    New,
    /// The files on the disk belong to another machine.
    Clone,
    /// There is a certificate that no call has proved yet.
    Unproved,
    /// The certificate has expired.
    Expired,
    /// There is a certificate that the server knows.
    Enrolled,
}

/// The key of a certificate request.
pub(crate) struct KeyToCertify {
    pub(crate) key: HostKey,
    /// Name of the key's file.
    pub(crate) file: String,
    /// This run has made it.
    pub(crate) is_new: bool,
}

/// The files of this host as they were read.
#[derive(Clone)]
pub(crate) struct HostState {
    pub(crate) files: KeyFiles,
    pub(crate) record: Record,
    machine: Fingerprint,
}

impl HostState {
    /// Reads the record of the enrolment and the fingerprint of the machine.
    ///
    /// # Errors
    /// A broken record, and files that cannot be read.
    pub(crate) fn read(folder: PathBuf, environment: &Environment) -> Result<Self> {
        let step = step_record_in(&folder);
        let files = KeyFiles::of(folder, environment.access());
        let record = match files.load(RECORD_FILE)? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|cause| {
                let path = files.folder().join(RECORD_FILE);
                Error::new(ErrorId::ConfigBroken, cause.to_string())
                    .about(path.display())
                    .hint("remove the file and enrol again with an enrollment secret: the key stays, so it is the same agent")
            })?,
            None => Record::default(),
        };
        Ok(Self {
            files,
            record,
            machine: step::machine(step.as_ref(), environment)?,
        })
    }

    /// Returns the enrolment state at `now`.
    ///
    /// # Errors
    /// A broken key or certificate, and files that cannot be read.
    pub(crate) fn enrolment_state(&self, now: SystemTime) -> Result<EnrolmentState> {
        if !self.is_ours()? {
            return Ok(EnrolmentState::Clone);
        }
        let Some(certificate) = self.certificate()? else {
            return Ok(EnrolmentState::New);
        };
        Ok(match &self.record {
            _ if certificate.expires_at() <= now => EnrolmentState::Expired,
            Record {
                agent_id: Some(_),
                server_url: Some(_),
                enrolled_at,
                ..
            } => match enrolled_at {
                Some(_) => EnrolmentState::Enrolled,
                None => EnrolmentState::Unproved,
            },
            _ => EnrolmentState::New,
        })
    }

    /// Returns whether the files were made on this machine, and no next key waits.
    fn is_ours(&self) -> Result<bool> {
        let is_made_here =
            self.record.machine.is_empty() || self.record.machine.is_same_machine(&self.machine);
        // A next key that cannot be read is an error: it may be the key of this machine.
        Ok(is_made_here && self.files.load(&self.next_key_name())?.is_none())
    }

    /// Returns the fingerprint for the record: the recorded one with the ids as they are now, or the one of this
    /// machine when the record is of another machine.
    fn machine_of_now(&self) -> Fingerprint {
        let recorded = &self.record.machine;
        if recorded.is_same_machine(&self.machine) {
            recorded.updated(&self.machine)
        } else {
            self.machine.clone()
        }
    }

    /// Returns whether the record of this machine lacks an id, or has one that has changed since.
    pub(crate) fn has_old_machine(&self) -> bool {
        self.is_ours().unwrap_or(false) && self.machine_of_now() != self.record.machine
    }

    /// Writes the ids of the machine as they are now into the record.
    ///
    /// # Errors
    /// A record that cannot be written.
    pub(crate) fn save_machine(&self) -> Result<()> {
        self.write_record(&Record {
            machine: self.machine_of_now(),
            ..self.record.clone()
        })
    }

    /// Returns the certificate of the host's key, if both files exist.
    ///
    /// # Errors
    /// A broken key or certificate, and files that cannot be read.
    pub(crate) fn certificate(&self) -> Result<Option<Certificate>> {
        let (Some(key), Some(pem)) = (self.key()?, self.files.load(CERTIFICATE)?) else {
            return Ok(None);
        };
        let certificate = Certificate::from_pem(&pem).map_err(|misfit| {
            Error::new(ErrorId::IdentityBroken, misfit.cause)
                .about(self.files.folder().join(CERTIFICATE).display())
                .hint("remove the file and enrol again with an enrollment secret: the key stays, so it is the same agent")
        })?;
        Ok(Some(certificate).filter(|certificate| certificate.is_for(&key.public())))
    }

    /// Returns the host's key, if there is one.
    ///
    /// # Errors
    /// A broken key, and a file that cannot be read.
    pub(crate) fn key(&self) -> Result<Option<HostKey>> {
        self.load_key(KEY)
    }

    /// Returns the key for a certificate request, which is on the disk then: the host's key, or on a clone
    /// a next key beside the key of the other machine.
    ///
    /// # Errors
    /// A broken key, and files that cannot be written.
    pub(crate) fn key_to_certify(&self, enrolment_state: EnrolmentState) -> Result<KeyToCertify> {
        let name = match enrolment_state {
            EnrolmentState::Clone => self.next_key_name(),
            _ => KEY.into(),
        };
        let of_file = |key, is_new| KeyToCertify {
            key,
            file: name.clone(),
            is_new,
        };
        if let Some(key) = self.load_key(&name)? {
            tracing::debug!("{name} exists already: to the server this is the same host");
            return Ok(of_file(key, false));
        }
        let key = HostKey::make()
            .ok_or_else(|| Error::new(ErrorId::Internal, "the system gave no random bytes"))?;
        if enrolment_state != EnrolmentState::Clone {
            // A copy of the disk that is made from now on is recognised as a clone.
            self.write_record(&Record {
                machine: self.machine_of_now(),
                ..self.record.clone()
            })?;
        }
        self.files.keep_key(&name, &key.to_pem())?;
        Ok(of_file(key, true))
    }

    /// Writes the files of a new certificate for the key in the file `key_name`: record, key, CA, and the
    /// certificate last. After a crash before that, the host is not enrolled, and the next run requests a
    /// certificate for the same key.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub(crate) fn save(
        &mut self,
        record: Record,
        key_name: &str,
        certificate: &str,
        ca: &str,
    ) -> Result<()> {
        self.record = Record {
            machine: self.machine_of_now(),
            ..record
        };
        self.write_record(&self.record)?;
        if key_name != KEY {
            self.files.promote_key(key_name)?;
        }
        self.files.keep(CA, ca.as_bytes())?;
        self.files.keep(CERTIFICATE, certificate.as_bytes())
    }

    /// Returns the certificate request of `key` for this host name, which is on the disk then.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub(crate) fn certificate_request(&self, key: &HostKey, hostname: &str) -> Result<String> {
        if let Some(known) = self.files.load(REQUEST_FILE)?
            && key.has_made(&known, hostname)
            && let Ok(known) = std::str::from_utf8(&known)
        {
            return Ok(known.to_owned());
        }
        let request = key
            .request(hostname)
            .ok_or_else(|| Error::new(ErrorId::Internal, "the system gave no random bytes"))?;
        self.files.keep_private(REQUEST_FILE, request.as_bytes())?;
        Ok(request)
    }

    /// Returns whether a killed run has left files. `recover` removes the temporary ones.
    pub(crate) fn has_remains(&self) -> bool {
        self.files.has_temporary_files() || self.request_path().exists()
    }

    /// Removes the certificate request of a forced enrolment that was killed. Returns whether there was one.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub(crate) fn remove_request(&self) -> Result<bool> {
        let exists = self.request_path().exists();
        self.files.remove(REQUEST_FILE)?;
        Ok(exists)
    }

    fn request_path(&self) -> PathBuf {
        self.files.folder().join(REQUEST_FILE)
    }

    /// Records that the certificate was proved, and removes its request.
    ///
    /// # Errors
    /// A record that cannot be written.
    pub(crate) fn proved(&mut self, now: SystemTime) -> Result<()> {
        // Before the record: a run that is killed here proves the certificate again.
        self.files.remove(REQUEST_FILE)?;
        self.record.enrolled_at = Some(clock::rfc3339(now));
        self.write_record(&self.record)
    }

    fn write_record(&self, record: &Record) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(record).unwrap_or_default();
        text.push(b'\n');
        self.files.keep(RECORD_FILE, &text)
    }

    fn next_key_name(&self) -> String {
        format!("{NEXT_KEY}{}", self.machine.short())
    }

    fn load_key(&self, name: &str) -> Result<Option<HostKey>> {
        let Some(pem) = self.files.load(name)? else {
            return Ok(None);
        };
        HostKey::from_pem(&pem).map(Some).ok_or_else(|| {
            Error::new(
                ErrorId::IdentityBroken,
                "the file is not an ECDSA key on P-256 in PEM (PKCS#8)",
            )
            .about(self.files.folder().join(name).display())
            .hint("restore it; or remove it and enrol again with an enrollment secret, as a new agent")
        })
    }
}
