//! A host's disk: an overlay over a tree that all hosts share.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use ring::digest::{SHA256, digest};
use tempfile::TempDir;

use crate::prepared::tree;

/// A disk. It outlives the machines that are booted from it.
pub(crate) struct Disk {
    folder: TempDir,
    /// The lower layers of the overlay, in the syntax of its mount option.
    below: String,
    pub(crate) name: String,
}

/// The properties of a path that are compared between two trees.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    kind_and_mode: u32,
    owner: (u32, u32),
    content: Vec<u8>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:o} of {:?}", self.kind_and_mode, self.owner)
    }
}

impl Drop for Disk {
    /// Unmounts the disk, so that its folder can be removed, and not file by file through the overlay.
    fn drop(&mut self) {
        let _ = umount2(&self.root(), MntFlags::MNT_DETACH);
    }
}

impl Disk {
    /// Makes a fresh Debian of this release, without cloud-init.
    pub(crate) fn debian(release: &str, name: &str) -> Self {
        let disk = Self::with_cloud_init(release, name);
        disk.write("etc/cloud/cloud-init.disabled", "");
        disk
    }

    /// Makes a fresh Debian of this release, with cloud-init but without data for it.
    pub(crate) fn with_cloud_init(release: &str, name: &str) -> Self {
        Self::over(tree(release).display().to_string(), name)
    }

    /// Makes a disk from this one, which is a read-only image from now on.
    pub(crate) fn copy(&self, name: &str) -> Self {
        let upper = self.folder.path().join("upper");
        Self::over(format!("{}:{}", upper.display(), self.below), name)
    }

    fn over(below: String, name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for part in ["root", "upper", "work"] {
            fs::create_dir(folder.path().join(part)).unwrap();
        }
        fs::set_permissions(
            folder.path().join("upper"),
            fs::Permissions::from_mode(0o755),
        )
        .unwrap();
        let disk = Self {
            folder,
            below,
            name: name.into(),
        };
        let layers = format!(
            "lowerdir={},upperdir={},workdir={}",
            disk.below,
            disk.folder.path().join("upper").display(),
            disk.folder.path().join("work").display()
        );
        let overlay = Some("overlay");
        mount(
            overlay,
            &disk.root(),
            overlay,
            MsFlags::empty(),
            Some(layers.as_str()),
        )
        .unwrap();
        disk.write("etc/hostname", &format!("{name}\n"));
        disk.write("etc/hosts", &format!("127.0.0.1 localhost {name}\n"));
        disk
    }

    /// Returns the folder that is the host's `/`.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Returns the path of a file beside the disk, invisible to the host.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    pub(crate) fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    #[track_caller]
    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|cause| panic!("{path}: {cause}"))
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        fs::symlink_metadata(self.path(path)).is_ok()
    }

    /// Returns every path of the disk with its properties.
    pub(crate) fn entries(&self) -> BTreeMap<PathBuf, Entry> {
        let mut entries = BTreeMap::new();
        walk(&self.root(), &mut |path, metadata| {
            let content = if metadata.is_symlink() {
                fs::read_link(path)
                    .unwrap()
                    .into_os_string()
                    .into_encoded_bytes()
            } else if metadata.is_file() {
                digest(&SHA256, &fs::read(path).unwrap()).as_ref().to_vec()
            } else {
                Vec::new()
            };
            let entry = Entry {
                kind_and_mode: metadata.mode(),
                owner: (metadata.uid(), metadata.gid()),
                content,
            };
            let path = path.strip_prefix(self.root()).unwrap();
            entries.insert(path.to_path_buf(), entry);
        });
        entries
    }
}

/// Calls `visit` for each path below `folder`.
pub(crate) fn walk(folder: &Path, visit: &mut impl FnMut(&Path, &fs::Metadata)) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        // A file that was removed in the meantime is skipped.
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        visit(&path, &metadata);
        if metadata.is_dir() {
            walk(&path, visit);
        }
    }
}
