//! A sink of a few files in one folder: a private key, its certificate, the CA that it is from, and
//! notes about them.
//!
//! The key comes first, before anybody is asked for a certificate. The certificate comes last: only
//! with it, all is there.

use std::io;
use std::io::ErrorKind::{NotADirectory, NotFound};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::access::{Access, Grant};
use super::{atomic, safe_read, unreadable, unwritable};
use crate::error::{Error, ErrorId, Result};

/// Name of the private key, which the service may read and nobody else.
pub const KEY: &str = "client.key";
/// Name of the certificate, and what is between it and its CA, 0644.
pub const CERTIFICATE: &str = "client.pem";
/// Name of the CA, 0644.
pub const CA: &str = "ca.pem";
/// Begin of the name of a new key until a certificate has come for it; the machine that made it
/// follows. The old key is given up only then.
pub const NEXT_KEY: &str = "client.key.next-";

/// More than all of the files have together.
const ROOM: usize = 32 * 1024;

/// The folder.
#[derive(Clone, Debug)]
pub struct KeyFiles {
    folder: PathBuf,
    access: Access,
}

impl KeyFiles {
    /// The files of this folder, there or not.
    #[must_use]
    pub fn of(folder: PathBuf, access: Access) -> Self {
        Self { folder, access }
    }

    /// Where they are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What one of them holds, if it is there.
    ///
    /// # Errors
    /// [`ErrorId::Unreadable`].
    pub fn load(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let path = self.folder.join(name);
        match safe_read::own(&path) {
            Ok(bytes) => Ok(Some(Zeroizing::new(bytes))),
            // A folder that is a file is told when it is to be written.
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(None),
            Err(error) => Err(unreadable(&path, &error)),
        }
    }

    /// Proves that all of them can be written.
    ///
    /// # Errors
    /// [`ErrorId::StateUnwritable`].
    pub fn prove_writable(&self) -> Result<()> {
        atomic::prove(&self.folder, ROOM, self.access.shared().owner)
            .map_err(|error| self.fault(&error))
    }

    /// Brings a key to the disk.
    ///
    /// # Errors
    /// [`ErrorId::StateUnwritable`].
    pub fn keep_key(&self, name: &str, pem: &str) -> Result<()> {
        self.write(name, pem.as_bytes(), self.access.shared())
    }

    /// Puts a key into the place of [`KEY`].
    ///
    /// # Errors
    /// [`ErrorId::StateUnwritable`].
    pub fn promote_key(&self, name: &str) -> Result<()> {
        atomic::rename(&self.folder.join(name), &self.folder.join(KEY))
            .map_err(|error| self.fault(&error))
    }

    /// Removes one of them. One that is not there is fine.
    ///
    /// # Errors
    /// [`ErrorId::StateUnwritable`].
    pub fn remove(&self, name: &str) -> Result<()> {
        atomic::remove(&self.folder.join(name)).map_err(|error| self.fault(&error))
    }

    /// Brings a file that all may read to the disk. One that holds this already is left alone.
    ///
    /// # Errors
    /// [`ErrorId::StateUnwritable`], [`ErrorId::Unreadable`].
    pub fn keep(&self, name: &str, bytes: &[u8]) -> Result<()> {
        match self.load(name)? {
            Some(kept) if **kept == *bytes => Ok(()),
            _ => self.write(name, bytes, self.access.public()),
        }
    }

    /// Whether a killed run has left something.
    #[must_use]
    pub fn has_leftovers(&self) -> bool {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten();
        entries.flatten().any(|entry| {
            let name = entry.file_name();
            atomic::is_temporary(&name.to_string_lossy())
        })
    }

    /// Removes what killed runs have left. Call it under the lock.
    ///
    /// # Errors
    /// [`ErrorId::StateUnwritable`].
    pub fn sweep(&self) -> Result<()> {
        atomic::sweep(&self.folder).map_err(|error| self.fault(&error))
    }

    fn write(&self, name: &str, bytes: &[u8], grant: Grant) -> Result<()> {
        let path = self.folder.join(name);
        atomic::write(&path, bytes, grant.mode, grant.owner)
            .map_err(|error| unwritable(ErrorId::StateUnwritable, &path, &error))
    }

    fn fault(&self, error: &io::Error) -> Error {
        unwritable(ErrorId::StateUnwritable, &self.folder, error)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn keeps_each_with_its_mode_and_leaves_alone_what_is_right() {
        let folder = tempfile::tempdir().unwrap();
        let files = KeyFiles::of(folder.path().to_owned(), Access::private());
        assert!(files.load(KEY).unwrap().is_none());
        let keep = |certificate: &str| {
            files.keep(CA, b"ca").unwrap();
            files.keep(CERTIFICATE, certificate.as_bytes()).unwrap();
        };
        let look = |name| {
            let metadata = std::fs::metadata(folder.path().join(name)).unwrap();
            (metadata.mode() & 0o7777, metadata.ino())
        };
        files.keep_key("client.key.next-1", "key").unwrap();
        files.promote_key("client.key.next-1").unwrap();
        keep("certificate");
        let before = [look(KEY), look(CERTIFICATE), look(CA)];
        assert_eq!(before.map(|(mode, _)| mode), [0o600, 0o644, 0o644]);
        keep("renewed");
        let after = [look(KEY), look(CERTIFICATE), look(CA)];
        assert_eq!((before[0], before[2]), (after[0], after[2]));
        assert_eq!(**files.load(CERTIFICATE).unwrap().unwrap(), *b"renewed");
        files.prove_writable().unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_folder_that_is_not_there_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let files = KeyFiles::of(folder.path().join("none"), Access::private());
        assert!(files.load(KEY).unwrap().is_none());
        assert_eq!(files.keep_key(KEY, "key").unwrap_err().exit_code(), 73);
        assert_eq!(files.prove_writable().unwrap_err().exit_code(), 73);
    }
}
