//! First boots of cloud-init, each in a mount namespace of its own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::terraform::succeeded;

/// The meta-data of an instance without anything special.
const META_DATA: &str = "instance-id: i-1\n";

/// The files and output of a first boot.
#[derive(Debug)]
pub(crate) struct Boot {
    /// Output of `cloud-init status --long`.
    pub(crate) status: String,
    /// Output of its scripts: /var/log/cloud-init-output.log.
    pub(crate) output: String,
    /// Its own log.
    pub(crate) log: String,
    /// Output of the script that ran after it; empty without one.
    pub(crate) after: String,
    /// Files of the boot script that are still there at the end.
    pub(crate) left: String,
}

impl Boot {
    /// Boots with this user data; `after` is a script that runs at the end, as root.
    #[track_caller]
    pub(crate) fn of(user_data: impl AsRef<[u8]>, after: &str) -> Self {
        Self::with_meta_data(user_data, META_DATA, after)
    }

    /// Boots with a `/var/lib` that is mounted noexec.
    #[track_caller]
    pub(crate) fn noexec(user_data: &str, after: &str) -> Self {
        Self::in_folder(
            &tempfile::tempdir().unwrap(),
            user_data,
            META_DATA,
            after,
            true,
        )
    }

    #[track_caller]
    pub(crate) fn with_meta_data(
        user_data: impl AsRef<[u8]>,
        meta_data: &str,
        after: &str,
    ) -> Self {
        let work = tempfile::tempdir().unwrap();
        Self::in_folder(&work, user_data, meta_data, after, false)
    }

    #[track_caller]
    fn in_folder(
        work: &TempDir,
        user_data: impl AsRef<[u8]>,
        meta_data: &str,
        after: &str,
        is_noexec: bool,
    ) -> Self {
        let path = |name: &str| work.path().join(name);
        if is_noexec {
            fs::write(path("noexec"), "").unwrap();
        }
        fs::write(path("user-data"), user_data).unwrap();
        fs::write(path("meta-data"), meta_data).unwrap();
        if !after.is_empty() {
            fs::write(path("after"), after).unwrap();
        }
        symlink(unpacked().join("cloud-init"), path("cloud-init")).unwrap();
        let script = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/cloud-init/first-boot.sh"
        );
        let mut boot = Command::new("unshare");
        boot.args(["--mount", "--propagation=private", "sh", script])
            .arg(work.path())
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("AWS_EC2_METADATA_DISABLED", "true");
        succeeded(&boot.output().unwrap());
        let read = |name: &str| {
            let bytes = fs::read(path(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Self {
            status: read("status"),
            output: read("output"),
            log: read("cloud-init.log"),
            after: read("after.log"),
            left: read("left"),
        }
    }

    /// Returns whether cloud-init reports that all went well.
    pub(crate) fn is_done(&self) -> bool {
        self.status.contains("status: done")
    }

    /// Returns whether cloud-init reports an error.
    pub(crate) fn is_failed(&self) -> bool {
        self.status.contains("status: error")
    }

    /// Fails the test, with all of the boot's output, unless `ok`.
    #[track_caller]
    pub(crate) fn expect(&self, ok: bool, otherwise: &str) {
        let Self {
            status,
            output,
            after,
            left,
            ..
        } = self;
        assert!(
            ok,
            "{otherwise}:\n{status}--- output\n{output}--- after\n{after}--- left\n{left}"
        );
    }
}

/// Returns cloud-init as it was unpacked: a folder with the scripts `cloud-init` and `python`.
pub(crate) fn unpacked() -> PathBuf {
    suite_folder("MONSYS_TEST_CLOUD_INIT")
}

/// Returns a folder that the suite has made.
#[track_caller]
pub(crate) fn suite_folder(variable: &str) -> PathBuf {
    let folder = std::env::var_os(variable);
    let folder = folder.unwrap_or_else(|| {
        panic!("{variable} is not set: run this by `cargo xtask test cloud-init`")
    });
    Path::new(&folder).to_owned()
}
