//! A folder that holds one release and nothing else.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use xtask::error::{Context, Result};
use xtask::tools;

/// A folder of the files that were put into it: all others are removed when it is closed.
pub(crate) struct Folder {
    path: PathBuf,
    names: BTreeSet<String>,
}

impl Folder {
    pub(crate) fn open(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path).context(|| format!("could not make {}", path.display()))?;
        Ok(Self {
            path,
            names: BTreeSet::new(),
        })
    }

    /// Returns the path of a file that the caller writes. The file stays when the folder is closed.
    pub(crate) fn keep(&mut self, name: &str) -> PathBuf {
        self.names.insert(name.to_owned());
        self.path.join(name)
    }

    /// A file of this name, mode and content. One that is so already is not touched.
    pub(crate) fn put(&mut self, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
        write(&self.keep(name), bytes, mode)
    }

    /// The bytes of a file in it, if it is there.
    pub(crate) fn get(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.path.join(name)).ok()
    }

    /// A line of `sha256sum` for each file so far, by name.
    pub(crate) fn checksums(&self) -> Result<String> {
        let mut lines = String::new();
        for name in self.names.iter().filter(|name| !name.starts_with("SHA256")) {
            let _ = writeln!(lines, "{}  {name}", sha256(&read(&self.path.join(name))?));
        }
        Ok(lines)
    }

    /// Removes what is left of other releases, and lists what there is.
    pub(crate) fn close(self) -> Result<PathBuf> {
        let what = || format!("could not clear {}", self.path.display());
        for entry in fs::read_dir(&self.path).context(what)? {
            let entry = entry.context(what)?;
            if !self.names.contains(&*entry.file_name().to_string_lossy()) {
                fs::remove_file(entry.path()).context(what)?;
            }
        }
        println!("{}", tools::shown(&self.path));
        for name in &self.names {
            let size = fs::metadata(self.path.join(name)).context(what)?.len();
            println!("  {size:>9}  {name}");
        }
        Ok(self.path)
    }
}

/// Writes a file unless it is so already, so that what is made from it is not made again.
pub(super) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let what = || format!("could not write {}", path.display());
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return fs::set_permissions(path, Permissions::from_mode(mode)).context(what);
    }
    // A program that runs is not written to: it is replaced.
    let new = path.with_extension("new");
    fs::write(&new, bytes).context(what)?;
    fs::set_permissions(&new, Permissions::from_mode(mode)).context(what)?;
    fs::rename(&new, path).context(what)
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).context(|| format!("could not read {}", path.display()))
}

/// SHA-256 in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_was_put_into_it_and_nothing_else() {
        let scratch = tempfile::tempdir().unwrap();
        fs::write(scratch.path().join("monsys-agent-0.0.1"), "old").unwrap();
        let mut folder = Folder::open(scratch.path().to_owned()).unwrap();
        folder.put("b", b"", 0o644).unwrap();
        folder.put("a", b"abc", 0o755).unwrap();
        let sums = folder.checksums().unwrap();
        assert_eq!(
            sums,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a\n\
             e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  b\n"
        );
        folder.put("SHA256SUMS", sums.as_bytes(), 0o644).unwrap();
        assert_eq!(folder.checksums().unwrap(), sums);
        let path = folder.close().unwrap();
        let mode = fs::metadata(path.join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        assert_eq!(fs::read_dir(path).unwrap().count(), 3);
    }
}
