//! Installations under the umask of a hardened host.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::service::{agent, fixture};

/// Installs under this umask, and returns the mode of each file and folder that was made.
fn modes_under(umask: &str) -> BTreeMap<PathBuf, u32> {
    let (machine, hub) = fixture();
    let before = machine.changes();
    let line = format!("umask {umask} && exec /root/monsys-agent install");
    agent(&machine, &hub, "sh", &["-c", &line]).expect(0);
    let fresh = machine
        .changes()
        .into_keys()
        .filter(|path| !before.contains_key(path))
        .filter(|path| path.to_string_lossy().contains("monsys"));
    fresh
        .map(|path| {
            let below = machine.path(path.strip_prefix("/").unwrap().to_str().unwrap());
            let mode = fs::symlink_metadata(below).unwrap().mode();
            (path, mode)
        })
        .collect()
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_strict_umask_changes_no_mode() {
    let usual = modes_under("0022");
    assert!(usual.len() > 6, "{usual:?}");
    for umask in ["0027", "0077"] {
        assert_eq!(modes_under(umask), usual, "{umask}");
    }
}
