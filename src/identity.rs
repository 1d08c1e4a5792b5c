//! The host's Ed25519 key: it is the host's identity at the hub, and never leaves the host.

use std::io::ErrorKind::{NotADirectory, NotFound};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};
use zeroize::Zeroizing;

use crate::error::{Error, ErrorId, Result};
use crate::store::atomic::{self, Owner};
use crate::store::{read, unreadable, unwritable};

/// Name of the key file in the state directory: 32 bytes, the seed, no header.
pub const KEY_FILE: &str = "agent-signing.key";
/// Begin of the name of a new key until the hub has confirmed it; the machine that made it
/// follows, so that a copy of the disk does not take it for its own. The old key is given up only
/// when the new one is confirmed.
pub const NEXT_KEY_FILE: &str = "agent-signing.key.next-";

/// The host's key pair.
pub struct Identity {
    pair: Ed25519KeyPair,
}

impl Identity {
    /// Loads the key of the state directory, if there is one.
    ///
    /// # Errors
    /// [`ErrorId::IdentityBroken`], [`ErrorId::Unreadable`].
    pub fn load(state_dir: &Path, file: &str) -> Result<Option<Self>> {
        let path = state_dir.join(file);
        let seed = match read::own(&path) {
            Ok(seed) => Zeroizing::new(seed),
            // A state directory that is a file is told when it is to be written.
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => return Ok(None),
            Err(error) => return Err(unreadable(&path, &error)),
        };
        Self::from_seed(&seed).map(Some).ok_or_else(|| {
            Error::new(
                ErrorId::IdentityBroken,
                format!("it has {} bytes, and the key has 32", seed.len()),
            )
            .about(path.display())
        })
    }

    /// Loads the key, or makes one and brings it to the disk before it is used.
    ///
    /// # Errors
    /// As [`Identity::load`]; [`ErrorId::StateUnwritable`] when a new one cannot be stored.
    pub fn load_or_create(state_dir: &Path, file: &str, owner: Owner) -> Result<Self> {
        if let Some(identity) = Self::load(state_dir, file)? {
            return Ok(identity);
        }
        let mut seed = Zeroizing::new([0; 32]);
        SystemRandom::new()
            .fill(seed.as_mut_slice())
            .map_err(|_| Error::new(ErrorId::Internal, "the system gave no random bytes"))?;
        let path: PathBuf = state_dir.join(file);
        atomic::write(&path, seed.as_slice(), 0o600, owner)
            .map_err(|error| unwritable(ErrorId::StateUnwritable, &path, &error))?;
        tracing::debug!("made the host's signing key {}", path.display());
        Self::from_seed(seed.as_slice())
            .ok_or_else(|| Error::new(ErrorId::Internal, "a new key was not usable"))
    }

    fn from_seed(seed: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        Some(Self { pair })
    }

    /// The public key, base64.
    #[must_use]
    pub fn public_key(&self) -> String {
        STANDARD.encode(self.pair.public_key().as_ref())
    }

    /// Value of `X-Monsys-Signature`: base64 of Ed25519 over SHA-256 of the body
    /// (monsys security architecture, "Agent → Hub").
    #[must_use]
    pub fn sign(&self, body: &[u8]) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, body);
        STANDARD.encode(self.pair.sign(digest.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use ring::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    #[test]
    fn is_made_once_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let owner = Owner::of(folder.path()).unwrap();
        assert!(Identity::load(folder.path(), KEY_FILE).unwrap().is_none());
        let first = Identity::load_or_create(folder.path(), KEY_FILE, owner).unwrap();
        let again = Identity::load_or_create(folder.path(), KEY_FILE, owner).unwrap();
        assert_eq!(first.public_key(), again.public_key());
        let metadata = std::fs::metadata(folder.path().join(KEY_FILE)).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.len()), (0o600, 32));
    }

    #[test]
    fn a_key_of_another_size_is_told_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let owner = Owner::of(folder.path()).unwrap();
        let path = folder.path().join(KEY_FILE);
        for bytes in [b"".as_slice(), &[1; 31], &[1; 64]] {
            atomic::write(&path, bytes, 0o600, owner).unwrap();
            let Err(error) = Identity::load_or_create(folder.path(), KEY_FILE, owner) else {
                panic!("{} bytes were taken as a key", bytes.len());
            };
            assert_eq!(error.exit_code(), 78);
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
    }

    /// RFC 8032, section 7.1, tests 1 to 3: the public keys of known seeds.
    #[test]
    fn public_keys_are_those_of_rfc_8032() {
        for (seed, public) in [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            ),
            (
                "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            ),
            (
                "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
                "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            ),
        ] {
            let identity = Identity::from_seed(&bytes(seed)).unwrap();
            assert_eq!(
                STANDARD.decode(identity.public_key()).unwrap(),
                bytes(public)
            );
        }
    }

    #[test]
    fn signs_the_digest_of_the_body() {
        let identity = Identity::from_seed(&[7; 32]).unwrap();
        let signature = STANDARD.decode(identity.sign(b"body")).unwrap();
        let public = STANDARD.decode(identity.public_key()).unwrap();
        let key = UnparsedPublicKey::new(&ED25519, public);
        let digest = ring::digest::digest(&ring::digest::SHA256, b"body");
        key.verify(digest.as_ref(), &signature).unwrap();
        assert!(key.verify(b"body", &signature).is_err());
    }

    fn bytes(hex: &str) -> Vec<u8> {
        hex.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }
}
