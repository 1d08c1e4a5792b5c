//! Users of a host, by its own file (passwd(5)): below `--root`, the running system's would be wrong.

use std::path::Path;

use super::safe_read;

/// Numbers of the user and of its group.
#[must_use]
pub fn find(passwd: &Path, user: &str) -> Option<(u32, u32)> {
    let users = safe_read::text(passwd).ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == user).then_some(())?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some((uid, gid))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::atomic::{self, Owner};

    #[test]
    fn finds_a_user_by_its_exact_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passwd");
        assert_eq!(find(&path, "monsys"), None);
        let text = b"root:x:0:0::/:/bin/sh\nmonsysx:x:1:1::/:\nbroken\nmonsys:x:7:8::/:\n";
        atomic::write(&path, text, 0o644, Owner::ours()).unwrap();
        assert_eq!(find(&path, "monsys"), Some((7, 8)));
        assert_eq!(find(&path, "broken"), None);
    }
}
