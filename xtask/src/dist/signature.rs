//! The checksums' signature, as minisign makes and checks it.

use std::io::Cursor;
use std::path::Path;

use minisign::{
    KeyPair, PublicKey, SecretKey, SecretKeyBox, SignatureBox, sign as sign_with, verify,
};

use super::Folder;
use xtask::error::{Context, Result, Stop};

/// Signs SHA256SUMS; the public key, as `minisign -P` takes it.
pub(super) fn sign(key: &Path, release: &str, folder: &mut Folder) -> Result<String> {
    let what = || format!("could not sign with {}", key.display());
    let secret = secret(key)?;
    let public = PublicKey::from_secret_key(&secret).context(what)?;
    let sums = folder.get("SHA256SUMS").unwrap_or_default();
    let comment = format!("{release} SHA256SUMS");
    let signed = folder.get("SHA256SUMS.minisig");
    folder.keep("SHA256SUMS.minisig");
    // A signature is another one each time: one that holds is kept.
    if !signed.is_some_and(|signed| holds(&public, &sums, &signed, &comment)) {
        let signature = sign_with(
            Some(&public),
            &secret,
            Cursor::new(&sums),
            Some(&comment),
            Some("signature of the checksums"),
        );
        let signature = signature.context(what)?.into_string();
        folder.put("SHA256SUMS.minisig", signature.as_bytes(), 0o644)?;
    }
    Ok(public.to_base64())
}

fn holds(public: &PublicKey, sums: &[u8], signature: &[u8], comment: &str) -> bool {
    let signature = SignatureBox::from_string(&String::from_utf8_lossy(signature));
    signature.is_ok_and(|signature| {
        let same = signature.trusted_comment().is_ok_and(|old| old == comment);
        same && verify(public, &signature, Cursor::new(sums), true, false, false).is_ok()
    })
}

fn secret(key: &Path) -> Result<SecretKey> {
    let what = || format!("could not read the key {}", key.display());
    let text = std::fs::read_to_string(key).context(what)?;
    let read = || SecretKeyBox::from_string(&text).context(what);
    if let Ok(secret) = read()?.into_unencrypted_secret_key() {
        return Ok(secret);
    }
    let password = std::env::var("MINISIGN_PASSWORD").map_err(|_| {
        Stop::failed(format!(
            "{} has a password: give it in MINISIGN_PASSWORD",
            key.display()
        ))
    })?;
    read()?.into_secret_key(Some(password)).context(what)
}

/// Writes a secret key without a password, which signs the release that the suites test.
pub(crate) fn write_test_key(path: &Path) -> Result<()> {
    let what = || "could not make a key".to_owned();
    let pair = KeyPair::generate_unencrypted_keypair().context(what)?;
    let text = pair.sk.to_box(None).context(what)?.into_string();
    std::fs::write(path, text).context(what)
}
