//! The files of a certificate in one folder: a private key, its certificate, the CA, and notes.
//!
//! The key is written first, before the request for a certificate. The certificate is written last: the
//! files are complete only with it.

use std::io;
use std::io::ErrorKind::{NotADirectory, NotFound};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::access::{Access, Grant};
use super::proof::Target;
use super::{atomic, safe_read, unreadable, unwritable};
use crate::error::{Error, ErrorId, Result};

/// Name of the private key. Only its owner and the service may read it.
pub const KEY: &str = "client.key";
/// Name of the file with the certificate and its intermediate certificates, 0644.
pub const CERTIFICATE: &str = "client.pem";
/// Name of the CA, 0644.
pub const CA: &str = "ca.pem";
/// Beginning of the name of a new key until its certificate has arrived; the id of the machine that made
/// the key follows. The new key replaces the old key only then.
pub const NEXT_KEY: &str = "client.key.next-";

/// More bytes than any of the files has.
const ROOM: usize = 16 * 1024;

/// The folder of the key and the certificate.
#[derive(Clone, Debug)]
pub struct KeyFiles {
    folder: PathBuf,
    access: Access,
}

impl KeyFiles {
    /// Makes the store of this folder, which may be missing.
    #[must_use]
    pub fn of(folder: PathBuf, access: Access) -> Self {
        Self { folder, access }
    }

    /// Returns the folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads a file, if it exists.
    ///
    /// # Errors
    /// [`ErrorId::Unreadable`].
    pub fn load(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let path = self.folder.join(name);
        match safe_read::own(&path) {
            Ok(bytes) => Ok(Some(Zeroizing::new(bytes))),
            // A file in the place of the folder is reported at the first write.
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(None),
            Err(error) => Err(unreadable(&path, &error)),
        }
    }

    /// Returns the targets of a run that writes these public files, and [`KEY`] too if `writes_key`.
    #[must_use]
    pub fn targets(&self, public: &[&str], writes_key: bool) -> Vec<Target> {
        let target = |name: &str, grant| Target {
            path: self.folder.join(name),
            grant,
            room: ROOM,
            error_id: ErrorId::StateUnwritable,
        };
        let key = writes_key.then(|| target(KEY, self.access.shared()));
        let public = public.iter();
        key.into_iter()
            .chain(public.map(|name| target(name, self.access.public())))
            .collect()
    }

    /// Stores a key.
    ///
    /// # Errors
    /// [`ErrorId::StateUnwritable`].
    pub fn keep_key(&self, name: &str, pem: &str) -> Result<()> {
        self.write(name, pem.as_bytes(), self.access.shared())
    }

    /// Replaces [`KEY`] with the key `name`.
    ///
    /// # Errors
    /// [`ErrorId::StateUnwritable`].
    pub fn promote_key(&self, name: &str) -> Result<()> {
        atomic::rename(&self.folder.join(name), &self.folder.join(KEY))
            .map_err(|error| self.unwritable(&error))
    }

    /// Removes a file. Accepts a missing file.
    ///
    /// # Errors
    /// [`ErrorId::StateUnwritable`].
    pub fn remove(&self, name: &str) -> Result<()> {
        atomic::remove(&self.folder.join(name)).map_err(|error| self.unwritable(&error))
    }

    /// Stores a file that all users may read. A file with these bytes is not written again.
    ///
    /// # Errors
    /// [`ErrorId::StateUnwritable`], [`ErrorId::Unreadable`].
    pub fn keep(&self, name: &str, bytes: &[u8]) -> Result<()> {
        match self.load(name)? {
            Some(kept) if **kept == *bytes => Ok(()),
            _ => self.write(name, bytes, self.access.public()),
        }
    }

    /// Stores a file that only its owner may read.
    ///
    /// # Errors
    /// [`ErrorId::StateUnwritable`].
    pub fn keep_private(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write(name, bytes, self.access.secret())
    }

    /// Returns true when a killed run has left a temporary file.
    #[must_use]
    pub fn has_temporary_files(&self) -> bool {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten();
        entries.flatten().any(|entry| {
            let name = entry.file_name();
            atomic::is_temporary(&name.to_string_lossy())
        })
    }

    /// Removes the files that killed runs left. The caller holds the lock.
    ///
    /// # Errors
    /// [`ErrorId::StateUnwritable`].
    pub fn sweep(&self) -> Result<()> {
        atomic::sweep(&self.folder).map_err(|error| self.unwritable(&error))
    }

    fn write(&self, name: &str, bytes: &[u8], grant: Grant) -> Result<()> {
        let path = self.folder.join(name);
        atomic::write(&path, bytes, grant.mode, grant.owner)
            .map_err(|error| unwritable(ErrorId::StateUnwritable, &path, &error))
    }

    fn unwritable(&self, error: &io::Error) -> Error {
        unwritable(ErrorId::StateUnwritable, &self.folder, error)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::store::proof;

    #[test]
    fn stores_each_file_with_its_mode_and_only_if_it_changed() {
        let folder = tempfile::tempdir().unwrap();
        let files = KeyFiles::of(folder.path().to_owned(), Access::private());
        assert!(files.load(KEY).unwrap().is_none());
        let keep = |certificate: &str| {
            files.keep(CA, b"ca").unwrap();
            files.keep(CERTIFICATE, certificate.as_bytes()).unwrap();
        };
        let inspect = |name| {
            let metadata = std::fs::metadata(folder.path().join(name)).unwrap();
            (metadata.mode() & 0o7777, metadata.ino())
        };
        files.keep_key("client.key.next-1", "key").unwrap();
        files.promote_key("client.key.next-1").unwrap();
        keep("certificate");
        let before = [inspect(KEY), inspect(CERTIFICATE), inspect(CA)];
        assert_eq!(before.map(|(mode, _)| mode), [0o600, 0o644, 0o644]);
        keep("renewed");
        let after = [inspect(KEY), inspect(CERTIFICATE), inspect(CA)];
        assert_eq!((before[0], before[2]), (after[0], after[2]));
        assert_eq!(**files.load(CERTIFICATE).unwrap().unwrap(), *b"renewed");
        let targets = files.targets(&[CERTIFICATE, CA], true);
        proof::prove(&targets, None, Path::new(proof::MOUNTS)).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_missing_folder_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let files = KeyFiles::of(folder.path().join("none"), Access::private());
        assert!(files.load(KEY).unwrap().is_none());
        assert_eq!(files.keep_key(KEY, "key").unwrap_err().exit_code(), 73);
        let targets = files.targets(&[CERTIFICATE, CA], true);
        let error = proof::prove(&targets, None, Path::new(proof::MOUNTS)).unwrap_err();
        assert_eq!(error.exit_code(), 73);
    }
}
