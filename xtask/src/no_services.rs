//! Debian starts a service when its package is installed. Here each test starts its own.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use crate::error::{Context as _, Result};

/// Debian asks this file whether an installed service may start.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// While it lives, no package that is installed starts a service. Each test starts its own.
pub(crate) struct NoServices {
    /// Whether the file is ours to remove: who has one already has said what may start.
    made: bool,
}

impl NoServices {
    pub(crate) fn new() -> Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(POLICY);
        match file {
            Ok(mut file) => {
                let policy = Self { made: true };
                file.write_all(b"#!/bin/sh\nexit 101\n")
                    .context(|| format!("could not write {POLICY}"))?;
                Ok(policy)
            }
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => Ok(Self { made: false }),
            Err(cause) => Err(cause).context(|| format!("could not make {POLICY}")),
        }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.made {
            let _ = fs::remove_file(POLICY);
        }
    }
}
