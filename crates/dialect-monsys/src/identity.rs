//! The host's Ed25519 key, which is the host's identity at the hub. The key is never sent.

use std::fmt;
use std::io::ErrorKind::{NotADirectory, NotFound};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};
use zeroize::Zeroizing;

use crate::state::State;
pub use crate::state::{KEY_FILE, NEXT_KEY_FILE};
use agent_core::error::{Error, ErrorId, Result};
use agent_core::store::access::Access;
use agent_core::store::atomic::{self, Draft};
use agent_core::store::{safe_read, unreadable, unwritable};

/// Size of a key file, in bytes.
pub const KEY_BYTES: usize = 32;

/// The context of a readmission's signature, so that it counts for no other request.
const READMISSION: &[u8] = b"monsys-readmit-v1\0";

/// The host's key pair.
pub struct Identity {
    pair: Ed25519KeyPair,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("public_key", &self.public_key())
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Loads the key of the state directory, if there is one.
    ///
    /// # Errors
    /// [`ErrorId::IdentityBroken`], [`ErrorId::Unreadable`].
    pub fn load(state_dir: &Path, file: &str) -> Result<Option<Self>> {
        let path = state_dir.join(file);
        let seed = match safe_read::own(&path) {
            Ok(seed) => Zeroizing::new(seed),
            // A state directory that is a file is an error as soon as the agent writes to it.
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => return Ok(None),
            Err(error) => return Err(unreadable(&path, &error)),
        };
        Self::from_seed(&seed).map(Some).ok_or_else(|| {
            Error::new(
                ErrorId::IdentityBroken,
                format!("the file has {} bytes, and a key has 32", seed.len()),
            )
            .about(path.display())
        })
    }

    /// Makes a key and writes it to the disk before it is used. Writes `state` first, if there is one.
    ///
    /// # Errors
    /// [`ErrorId::StateUnwritable`].
    pub fn create_after(
        state: Option<&State>,
        state_dir: &Path,
        file: &str,
        access: Access,
    ) -> Result<Self> {
        let unwritable = |path: &Path, error| unwritable(ErrorId::StateUnwritable, path, &error);
        let mut seed = Zeroizing::new([0; 32]);
        SystemRandom::new()
            .fill(seed.as_mut_slice())
            .map_err(|_| Error::new(ErrorId::Internal, "the system gave no random bytes"))?;
        let path: PathBuf = state_dir.join(file);
        let key = Draft {
            path: &path,
            bytes: seed.as_slice(),
            grant: access.shared(),
        };
        match state {
            Some(state) => state
                .save_with(&[key], state_dir, access)
                .map_err(|error| unwritable(state_dir, error))?,
            None => {
                atomic::write_all(&[key]).map_err(|error| unwritable(&path, error))?;
            }
        }
        tracing::debug!("made the host's signing key {}", path.display());
        Self::from_seed(seed.as_slice())
            .ok_or_else(|| Error::new(ErrorId::Internal, "a new key was not usable"))
    }

    pub(crate) fn from_seed(seed: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        Some(Self { pair })
    }

    /// Returns the public key, in base64.
    #[must_use]
    pub fn public_key(&self) -> String {
        STANDARD.encode(self.pair.public_key().as_ref())
    }

    /// Returns the value of `X-Monsys-Signature`: base64 of Ed25519 over SHA-256 of the body
    /// (monsys security architecture, "Agent → Hub").
    #[must_use]
    pub fn sign(&self, body: &[u8]) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, body);
        STANDARD.encode(self.ed25519(digest.as_ref()))
    }

    /// Returns the value of `X-Monsys-Signature` of a readmission, which counts at one hub alone: base64 of
    /// Ed25519 over a context, the hub's origin, and SHA-256 of the body (contract, section 10).
    #[must_use]
    pub fn sign_readmission(&self, origin: &str, body: &[u8]) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, body);
        let parts = [READMISSION, origin.as_bytes(), b"\0", digest.as_ref()];
        STANDARD.encode(self.ed25519(&parts.concat()))
    }

    /// Returns a plain Ed25519 signature (RFC 8032, section 5.1.6).
    fn ed25519(&self, message: &[u8]) -> impl AsRef<[u8]> + use<> {
        self.pair.sign(message)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use ring::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    #[test]
    fn a_key_is_made_once_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let access = Access::private();
        assert!(Identity::load(folder.path(), KEY_FILE).unwrap().is_none());
        let first = Identity::create_after(None, folder.path(), KEY_FILE, access).unwrap();
        let again = Identity::load(folder.path(), KEY_FILE).unwrap().unwrap();
        assert_eq!(first.public_key(), again.public_key());
        let metadata = std::fs::metadata(folder.path().join(KEY_FILE)).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.len()), (0o600, 32));
    }

    #[test]
    fn a_key_of_another_size_is_an_error_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let access = Access::private();
        let path = folder.path().join(KEY_FILE);
        for bytes in [b"".as_slice(), &[1; 31], &[1; 64]] {
            atomic::write(&path, bytes, 0o600, access.secret().owner).unwrap();
            let Err(error) = Identity::load(folder.path(), KEY_FILE) else {
                panic!("{} bytes were taken as a key", bytes.len());
            };
            assert_eq!(error.exit_code(), 78);
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
    }

    /// RFC 8032, section 7.1: seed, public key, message, signature.
    #[test]
    fn keys_and_signatures_are_those_of_rfc_8032() {
        for [seed, public, message, signature] in VECTORS {
            let identity = Identity::from_seed(&bytes(seed)).unwrap();
            assert_eq!(
                STANDARD.decode(identity.public_key()).unwrap(),
                bytes(public)
            );
            assert_eq!(
                identity.ed25519(&bytes(message)).as_ref(),
                bytes(signature),
                "{message}"
            );
        }
    }

    /// The wire's signature is that of RFC 8032 over the digest: of `abc`, by FIPS 180-4, B.1.
    #[test]
    fn the_header_is_the_signature_of_the_digest() {
        let identity = Identity::from_seed(&bytes(VECTORS[0][0])).unwrap();
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(
            identity.sign(b"abc"),
            STANDARD.encode(identity.ed25519(&bytes(digest)))
        );
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

    const VECTORS: [[&str; 4]; 4] = [
        [
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ],
        [
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ],
        [
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ],
        [
            "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
            "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
        ],
    ];
}
