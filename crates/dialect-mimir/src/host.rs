//! What a host has of Mimir on its disk, and what that makes of it.

use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::certificate::Certificate;
use crate::key::HostKey;
use agent_core::clock;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::fingerprint::Fingerprint;
use agent_core::store::key_files::{CA, CERTIFICATE, KEY, KeyFiles, NEXT_KEY};

/// Name of the notes, beside the key and the certificate.
pub(crate) const NOTES: &str = "agent.json";

/// What is known beside key and certificate.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Notes {
    /// The server that the certificate is from.
    pub(crate) server_url: Option<String>,
    /// How the server calls this host.
    pub(crate) agent_id: Option<String>,
    /// The host's name, as the server was told.
    pub(crate) hostname: Option<String>,
    /// When the certificate was first proved. Without it, the certificate still has to be.
    pub(crate) enrolled_at: Option<String>,
    /// What the service needs to reach the same server.
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) ca_pin: Option<String>,
    /// The machine that the key was made on.
    pub(crate) machine: Fingerprint,
}

/// Where a host stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EnrolmentState {
    /// There is no certificate for its key, if there is one at all.
    New,
    /// What is on its disk belongs to another machine.
    Clone,
    /// There is a certificate that no call has proved yet.
    Unproved,
    /// There was a certificate.
    Expired,
    /// There is a certificate, and the server knows it.
    Enrolled,
}

/// The key that a certificate is asked for.
pub(crate) struct KeyToEnrol {
    pub(crate) key: HostKey,
    /// Name of its file.
    pub(crate) file: String,
    /// This run has made it.
    pub(crate) is_new: bool,
}

/// This host.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) files: KeyFiles,
    pub(crate) notes: Notes,
    machine: Fingerprint,
}

impl Host {
    pub(crate) fn read(folder: PathBuf, environment: &Environment) -> Result<Self> {
        let files = KeyFiles::of(folder, environment.access());
        let notes = match files.load(NOTES)? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|cause| {
                let path = files.folder().join(NOTES);
                Error::new(ErrorId::ConfigBroken, cause.to_string())
                    .about(path.display())
                    .hint("remove the file and enrol again with an enrollment secret: the key stays, so it is the same agent")
            })?,
            None => Notes::default(),
        };
        Ok(Self {
            files,
            notes,
            machine: Fingerprint::of(environment)?,
        })
    }

    pub(crate) fn enrolment_state(&self, now: SystemTime) -> Result<EnrolmentState> {
        if !self.is_ours()? {
            return Ok(EnrolmentState::Clone);
        }
        let Some(certificate) = self.certificate()? else {
            return Ok(EnrolmentState::New);
        };
        Ok(match &self.notes {
            _ if certificate.expires_at() <= now => EnrolmentState::Expired,
            Notes {
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

    /// Whether what is here was made on this machine, and nothing newer waits.
    fn is_ours(&self) -> Result<bool> {
        let is_made_here =
            self.notes.machine.is_empty() || self.notes.machine.is_same_machine(&self.machine);
        // One that cannot be read is not taken for none, nor for one.
        Ok(is_made_here && self.files.load(&self.next_key_name())?.is_none())
    }

    /// The certificate of the key, if both are there.
    pub(crate) fn certificate(&self) -> Result<Option<Certificate>> {
        let (Some(key), Some(pem)) = (self.key()?, self.files.load(CERTIFICATE)?) else {
            return Ok(None);
        };
        let certificate = Certificate::from_pem(&pem).map_err(|cause| {
            Error::new(ErrorId::IdentityBroken, cause)
                .about(self.files.folder().join(CERTIFICATE).display())
                .hint("remove the file and enrol again with an enrollment secret: the key stays, so it is the same agent")
        })?;
        Ok(Some(certificate).filter(|certificate| certificate.is_for(&key.public())))
    }

    /// The key, if there is one.
    pub(crate) fn key(&self) -> Result<Option<HostKey>> {
        self.load_key(KEY)
    }

    /// The key that a certificate is to be asked for, on the disk: the one that is there; or, where
    /// that is another machine's, one that waits beside it.
    pub(crate) fn key_to_enrol(&self, enrolment_state: EnrolmentState) -> Result<KeyToEnrol> {
        let name = match enrolment_state {
            EnrolmentState::Clone => self.next_key_name(),
            _ => KEY.into(),
        };
        let of_file = |key, is_new| KeyToEnrol {
            key,
            file: name.clone(),
            is_new,
        };
        if let Some(key) = self.load_key(&name)? {
            tracing::debug!("{name} is there already: to the server this is the same host");
            return Ok(of_file(key, false));
        }
        let key = HostKey::make()
            .ok_or_else(|| Error::new(ErrorId::Internal, "the system gave no random bytes"))?;
        if enrolment_state != EnrolmentState::Clone {
            // A copy of the disk that is made from now on is known for one.
            self.write_notes(&Notes {
                machine: self.machine.clone(),
                ..self.notes.clone()
            })?;
        }
        self.files.keep_key(&name, &key.to_pem())?;
        Ok(of_file(key, true))
    }

    /// Keeps what the server has given for the key in the file `key_name`: notes, key, CA, and then
    /// the certificate. Whatever of it is missing after a crash makes no enrolled host, and the same
    /// key is asked for again.
    pub(crate) fn keep(
        &mut self,
        notes: Notes,
        key_name: &str,
        certificate: &str,
        ca: &str,
    ) -> Result<()> {
        self.notes = Notes {
            machine: self.machine.clone(),
            ..notes
        };
        self.write_notes(&self.notes)?;
        if key_name != KEY {
            self.files.promote_key(key_name)?;
        }
        self.files.keep(CA, ca.as_bytes())?;
        self.files.keep(CERTIFICATE, certificate.as_bytes())
    }

    /// Notes that the certificate was proved.
    pub(crate) fn proved(&mut self, now: SystemTime) -> Result<()> {
        self.notes.enrolled_at = Some(clock::rfc3339(now));
        self.write_notes(&self.notes)
    }

    fn write_notes(&self, notes: &Notes) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(notes).unwrap_or_default();
        text.push(b'\n');
        self.files.keep(NOTES, &text)
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
                "it is no ECDSA key on P-256 in PEM (PKCS#8)",
            )
            .about(self.files.folder().join(name).display())
            .hint("restore it; or remove it and enrol again with an enrollment secret, as a new agent")
        })
    }
}
