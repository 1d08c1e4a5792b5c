//! The operator's token: in a file, or random.

use crate::error::Error;
use crate::secret::{TokenKind, fresh_token};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Returns the token in the file, or a fresh one, which is written there if a file is given.
pub(crate) fn load_or_create(file: Option<&Path>) -> Result<String, Error> {
    let fresh = || {
        fresh_token(TokenKind::Admin)
            .map_err(|cause| Error::new("making the admin token", cause, "start the hub again"))
    };
    let Some(file) = file else { return fresh() };
    let failed = |cause: &dyn std::fmt::Display| {
        let hint = "give --admin-token-file a path that this user may read or create; the file \
                    holds one line of 16 or more visible characters";
        Error::new(
            format!("preparing the admin token in {}", file.display()),
            cause,
            hint,
        )
    };
    match fs::read_to_string(file) {
        Ok(text) => {
            let token = text.trim();
            if token.len() >= 16 && token.bytes().all(|byte| byte.is_ascii_graphic()) {
                Ok(token.to_owned())
            } else {
                Err(failed(&"the token is too short, or not one word"))
            }
        }
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            let token = fresh()?;
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(file)
                .and_then(|mut created| writeln!(created, "{token}"))
                .map_err(|cause| failed(&cause))?;
            Ok(token)
        }
        Err(cause) => Err(failed(&cause)),
    }
}
