//! Tarballs whose bytes depend on their content alone.

use std::io::Write as _;

use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

use xtask::error::{Context, Result};

pub(super) struct Entry {
    path: String,
    bytes: Vec<u8>,
    mode: u32,
}

impl Entry {
    /// `path` is below the tarball's one folder.
    pub(super) fn new(path: &str, bytes: Vec<u8>, mode: u32) -> Self {
        Self {
            path: path.to_owned(),
            bytes,
            mode,
        }
    }
}

/// A `.tar.gz` with one folder, in which all entries are; root owns them, and all are of one time.
pub(super) fn make(folder: &str, entries: &[Entry], epoch: u64) -> Result<Vec<u8>> {
    let what = || format!("could not make the tarball of {folder}");
    let mut tar = Builder::new(Vec::new());
    let mut folders = vec![format!("{folder}/")];
    let mut ordered: Vec<_> = entries.iter().collect();
    ordered.sort_by(|a, b| a.path.cmp(&b.path));
    for entry in &ordered {
        if let Some((inner, _)) = entry.path.rsplit_once('/') {
            folders.push(format!("{folder}/{inner}/"));
        }
    }
    folders.sort();
    folders.dedup();
    for path in &folders {
        let mut header = header(EntryType::Directory, 0o755, 0, epoch);
        tar.append_data(&mut header, path, [].as_slice())
            .context(what)?;
    }
    for entry in ordered {
        let size = entry.bytes.len() as u64;
        let mut header = header(EntryType::Regular, entry.mode, size, epoch);
        let path = format!("{folder}/{}", entry.path);
        tar.append_data(&mut header, path, entry.bytes.as_slice())
            .context(what)?;
    }
    gzip(&tar.into_inner().context(what)?)
}

pub(super) fn header(kind: EntryType, mode: u32, size: u64, epoch: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(epoch);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// The same bytes on every machine and at all times.
pub(super) fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
    gzip.write_all(bytes)
        .and_then(|()| gzip.finish())
        .context(|| "could not compress".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_in_which_files_are_given_makes_no_difference() {
        let entry = |path| Entry::new(path, path.as_bytes().to_owned(), 0o644);
        let one = make("x", &[entry("b"), entry("man/a")], 7).unwrap();
        let other = make("x", &[entry("man/a"), entry("b")], 7).unwrap();
        assert_eq!(one, other);
        assert_ne!(one, make("x", &[entry("b"), entry("man/a")], 8).unwrap());
        let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(one.as_slice()));
        let paths: Vec<_> = tar
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(paths, ["x/", "x/man/", "x/b", "x/man/a"]);
    }
}
