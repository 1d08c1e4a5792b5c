//! The system's store of trusted certificates, in the files and folders that OpenSSL reads.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Once;

use rustls::pki_types::TrustAnchor;

use super::anchor;
use crate::pem;
use crate::store::{names, safe_read};

/// The largest file of the store, in bytes. The bundles of distributions have a quarter of a MiB.
const LIMIT: u64 = 16 * 1024 * 1024;

/// Reads the store. What is broken in it is warned of, once in a run, and the rest counts.
pub(super) fn roots() -> Vec<TrustAnchor<'static>> {
    static WARNED: Once = Once::new();
    let mut store = Store::default();
    let (file, folders) = places();
    if let Some(file) = file {
        store.read_file(&file, true);
    }
    for folder in folders {
        match names(&folder) {
            Ok(names) => {
                for name in names {
                    store.read_file(&folder.join(name), false);
                }
            }
            Err(error) => store.warn(&folder, error),
        }
    }
    WARNED.call_once(|| {
        for warning in &store.warnings {
            tracing::warn!("the system's store: {warning}; the rest of the store counts");
        }
    });
    store.roots
}

/// Returns the file and the folders: those of the variables, or else the usual ones.
fn places() -> (Option<PathBuf>, Vec<PathBuf>) {
    #[expect(
        clippy::disallowed_methods,
        reason = "OpenSSL's variables, as its own programs read them"
    )]
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let file = variable(openssl_probe::ENV_CERT_FILE).map(PathBuf::from);
    let folders = variable(openssl_probe::ENV_CERT_DIR).unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&folders)
        .filter(|folder| !folder.as_os_str().is_empty())
        .collect();
    if file.is_none() && folders.is_empty() {
        let usual = openssl_probe::probe();
        return (usual.cert_file, usual.cert_dir);
    }
    (file, folders)
}

#[derive(Default)]
struct Store {
    roots: Vec<TrustAnchor<'static>>,
    /// Device and inode of each file: a folder has several links to one file.
    seen: BTreeSet<(u64, u64)>,
    warnings: Vec<String>,
}

impl Store {
    fn warn(&mut self, path: &Path, cause: impl std::fmt::Display) {
        self.warnings.push(format!("{}: {cause}", path.display()));
    }

    /// Reads a file. A folder also has files of other kinds, which are passed over, unlike a file that `is_named`.
    fn read_file(&mut self, path: &Path, is_named: bool) {
        match fs::metadata(path) {
            Ok(there) if there.is_file() => {
                if !self.seen.insert((there.dev(), there.ino())) {
                    return;
                }
            }
            Ok(_) if !is_named => return,
            Err(error) if !is_named && error.kind() == io::ErrorKind::NotFound => return,
            Ok(_) | Err(_) => {}
        }
        let bytes = match safe_read::large(path, LIMIT) {
            Ok(bytes) => bytes,
            Err(error) => return self.warn(path, error),
        };
        let mut is_empty = true;
        for found in pem::each(&bytes) {
            is_empty = false;
            match found.and_then(|found| anchor(&found)) {
                Ok(root) if self.roots.contains(&root) => {}
                Ok(root) => self.roots.push(root),
                // Bundles with OpenSSL's own label list such certificates too.
                Err(cause) if cause.ends_with(pem::DISTRUSTED) => {}
                Err(cause) => self.warn(path, cause),
            }
        }
        if is_empty && is_named {
            self.warn(path, "it holds no PEM certificate");
        }
    }
}
