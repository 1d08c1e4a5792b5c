//! Receipt keys: Ed25519 keys in files of their own, which outlive the database.
//!
//! The first key signs, all verify, so a hub that gets a new key still accepts what the old one has
//! signed.

use crate::error::Error;
use crate::secret::sha256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use data_encoding::HEXLOWER;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use std::fs::{File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The most bytes of a key file that are read. A key has about 120.
const MAX_FILE: u64 = 16 << 10;
/// The DER of an Ed25519 key up to its 32 bytes: RFC 8410 section 7.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
const HINT: &str = "give --receipt-key a file that this user may read and no other user can, as \
                    `openssl genpkey -algorithm ed25519` writes; the first one is created if it \
                    does not exist";

/// The receipt keys of a hub: at least one.
pub(crate) struct ReceiptKeys {
    signing: ReceiptKey,
    /// Keys that only verify.
    older: Vec<ReceiptKey>,
    /// True when none of the files existed before this start, so that nothing can be signed yet.
    pub(crate) is_new: bool,
}

impl ReceiptKeys {
    /// Loads the keys of these files, and creates the first file if it does not exist. Returns `None`
    /// for no files. `has_signed` is whether there is something that the keys must have signed: then
    /// the only key is not created, since the old one is elsewhere.
    pub(crate) fn load(files: &[PathBuf], has_signed: bool) -> Result<Option<Self>, Error> {
        let Some((first, rest)) = files.split_first() else {
            return Ok(None);
        };
        let older = rest
            .iter()
            .map(|file| ReceiptKey::load(file).map_err(|cause| failed(file, &cause)))
            .collect::<Result<Vec<_>, _>>()?;
        let (signing, is_created) = match ReceiptKey::load(first) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                if has_signed && older.is_empty() {
                    return Err(lost(first));
                }
                let created = ReceiptKey::create(first).map_err(|cause| failed(first, &cause))?;
                (created, true)
            }
            loaded => (loaded.map_err(|cause| failed(first, &cause))?, false),
        };
        Ok(Some(Self {
            signing,
            is_new: is_created && older.is_empty(),
            older,
        }))
    }

    /// Returns the id of the key that signs.
    pub(crate) fn kid(&self) -> &str {
        &self.signing.kid
    }

    /// Signs by the first key.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.signing.pair.sign(message).as_ref().to_vec()
    }

    /// Returns whether the key of this id has signed the message.
    pub(crate) fn verify_by(&self, kid: &str, message: &[u8], signature: &[u8]) -> bool {
        self.all()
            .any(|key| key.kid == kid && key.verifies(message, signature))
    }

    /// Returns whether one of the keys has signed the message.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.all().any(|key| key.verifies(message, signature))
    }

    fn all(&self) -> impl Iterator<Item = &ReceiptKey> {
        [&self.signing].into_iter().chain(&self.older)
    }

    /// Makes keys in memory from seeds, for tests and fuzz targets.
    pub(crate) fn from_seeds(seeds: &[[u8; 32]]) -> Option<Self> {
        let mut keys = seeds
            .iter()
            .map(|seed| Ed25519KeyPair::from_seed_unchecked(seed).map(ReceiptKey::of))
            .collect::<Result<Vec<_>, _>>()
            .ok()?;
        let signing = (!keys.is_empty()).then(|| keys.remove(0))?;
        Some(Self {
            signing,
            older: keys,
            is_new: true,
        })
    }
}

fn failed(file: &Path, cause: &io::Error) -> Error {
    Error::new(
        format!("preparing the receipt key {}", file.display()),
        cause,
        HINT,
    )
}

fn lost(file: &Path) -> Error {
    Error::new(
        format!("preparing the receipt key {}", file.display()),
        "the file does not exist, but the file of revocations does, which that key has signed",
        "restore the key to that path; without it the hub cannot read its receipts. To begin again \
         without it, move the file of revocations away too",
    )
}

/// One key. Its id is the beginning of the SHA-256 of its public key.
struct ReceiptKey {
    pair: Ed25519KeyPair,
    kid: String,
}

impl ReceiptKey {
    fn of(pair: Ed25519KeyPair) -> Self {
        let kid = HEXLOWER.encode(&sha256(pair.public_key().as_ref())[..8]);
        Self { pair, kid }
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.pair.public_key())
            .verify(message, signature)
            .is_ok()
    }

    fn load(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        check_owner_and_mode(&file.metadata()?)?;
        let mut pem = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut pem)?;
        PrivatePkcs8KeyDer::from_pem_slice(&pem)
            .ok()
            .and_then(|der| {
                // What openssl writes has no public key in it, and so nothing to compare with.
                Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).ok()
            })
            .map(Self::of)
            .ok_or_else(|| io::Error::other("the file is not an Ed25519 key in PKCS#8 PEM"))
    }

    /// Makes a key, and writes its file so that a crash leaves all of it or none.
    fn create(path: &Path) -> io::Result<Self> {
        let mut seed = [0; 32];
        SystemRandom::new()
            .fill(&mut seed)
            .map_err(|_| io::Error::other("the system gave no random bytes"))?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed)
            .map_err(|cause| io::Error::other(cause.to_string()))?;
        let der = [&PKCS8_PREFIX[..], &seed].concat();
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            STANDARD.encode(der)
        );
        let dir = folder_of(path);
        // The mode of a temporary file is 0600.
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(pem.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist_noclobber(path)
            .map_err(|failed| failed.error)?;
        File::open(dir)?.sync_all()?;
        Ok(Self::of(pair))
    }
}

/// Returns the folder of a file, for the sync of its entry.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if dir.as_os_str().is_empty() => Path::new("."),
        Some(dir) => dir,
        None => Path::new("/"),
    }
}

/// Checks that other users can neither read nor replace the key. A file of root may be readable by
/// a group, which is how a service manager or Kubernetes hands a secret to a service.
fn check_owner_and_mode(file: &Metadata) -> io::Result<()> {
    let user = rustix::process::geteuid().as_raw();
    let refused = |cause: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, cause));
    if file.uid() != user && file.uid() != 0 {
        return refused(format!("user {} owns it", file.uid()));
    }
    let group_may_read = if file.uid() == 0 { 0o040 } else { 0 };
    let mode = file.permissions().mode() & 0o777;
    if mode & 0o077 & !group_may_read == 0 {
        Ok(())
    } else {
        refused(format!(
            "other users can read or change it (mode {mode:04o}; `chmod 600` takes that away)"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const OPENSSL: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        -----END PRIVATE KEY-----\n";

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn the_first_key_is_created_and_is_the_same_later() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("receipt.key");
        let files = [file.clone()];
        let first = ReceiptKeys::load(&files, false).unwrap().unwrap();
        assert!(first.is_new);
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let second = ReceiptKeys::load(&files, false).unwrap().unwrap();
        assert!(!second.is_new);
        assert_eq!(first.kid(), second.kid());
        assert_eq!(first.kid().len(), 16);
        assert!(second.verify_by(first.kid(), b"m", &first.sign(b"m")));
        assert!(!second.verify(b"n", &first.sign(b"m")));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_first_signs_and_all_verify() {
        let old = ReceiptKeys::from_seeds(&[[1; 32]]).unwrap();
        let both = ReceiptKeys::from_seeds(&[[2; 32], [1; 32]]).unwrap();
        assert!(both.verify_by(old.kid(), b"m", &old.sign(b"m")));
        assert!(
            !both.verify_by(both.kid(), b"m", &old.sign(b"m")),
            "another key's"
        );
        assert!(!old.verify(b"m", &both.sign(b"m")));
    }

    #[test]
    fn a_key_of_openssl_is_read_and_anything_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("receipt.key");
        let load = || ReceiptKeys::load(std::slice::from_ref(&file), true);
        let Err(missing) = load() else {
            panic!("it is not there")
        };
        assert!(missing.to_string().contains("restore the key"), "{missing}");
        write(&file, OPENSSL, 0o600);
        // RFC 8410 section 10.3 has the key, and section 10.1 its public key.
        let key = load().unwrap().unwrap();
        assert_eq!(
            key.kid(),
            HEXLOWER.encode(
                &sha256(
                    &HEXLOWER
                        .decode(b"19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1")
                        .unwrap()
                )[..8]
            )
        );
        for (text, mode, cause) in [
            (OPENSSL, 0o644, "mode 0644"),
            (OPENSSL, 0o620, "mode 0620"),
            ("", 0o600, "not an Ed25519 key"),
            (
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                0o600,
                "not an Ed25519",
            ),
        ] {
            write(&file, text, mode);
            let Err(refused) = load() else {
                panic!("{mode:o}")
            };
            assert!(refused.to_string().contains(cause), "{refused}");
            assert!(
                refused.to_string().contains("hint:  give --receipt-key"),
                "{refused}"
            );
        }
    }
}
