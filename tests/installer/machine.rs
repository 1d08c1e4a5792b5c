//! A machine of one test: this one's files under an overlay, in a mount namespace of its own.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};

use crate::common::{Run, needs_root};

/// The environment of a root shell.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A machine. It lives in the mount namespace of the thread that made it.
pub(crate) struct Machine {
    folder: tempfile::TempDir,
}

/// What was changed on it: each path that is not as it is on this machine.
pub(crate) type Changes = BTreeMap<PathBuf, String>;

impl Machine {
    /// A machine like this one, on which the agent was never installed, and whose systemd (a
    /// script that keeps books) runs.
    #[track_caller]
    pub(crate) fn new() -> Self {
        let machine = Self::without_manager();
        fs::create_dir_all(machine.path("run/systemd/system")).unwrap();
        machine.program("usr/bin/systemctl", SYSTEMCTL);
        machine.program(
            "usr/bin/journalctl",
            "#!/bin/sh\necho 'said in the journal'\n",
        );
        machine
    }

    /// The same where no service manager runs.
    #[track_caller]
    pub(crate) fn without_manager() -> Self {
        needs_root();
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(&["--make-rprivate", "/"]);
        let machine = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let at = |name: &str| machine.folder.path().join(name).display().to_string();
        mount(&["-t", "tmpfs", "-o", "size=400m", "tmpfs", &at("")]);
        for name in ["upper", "work", "root"] {
            fs::create_dir(at(name)).unwrap();
        }
        let layers = format!("lowerdir=/,upperdir={},workdir={}", at("upper"), at("work"));
        mount(&["-t", "overlay", "-o", &layers, "overlay", &at("root")]);
        for name in ["proc", "dev"] {
            mount(&["--rbind", &format!("/{name}"), &at(&format!("root/{name}"))]);
        }
        for folder in ["tmp", "var/tmp", "run", "opt"] {
            mount(&[
                "-t",
                "tmpfs",
                "-o",
                "mode=1777,size=100m",
                "tmpfs",
                &machine.shown(folder),
            ]);
        }
        machine
    }

    /// Where its file is for us.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("root").join(path)
    }

    fn shown(&self, path: &str) -> String {
        self.path(path).display().to_string()
    }

    /// Puts a file there.
    pub(crate) fn lay(&self, path: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Puts a program there.
    pub(crate) fn program(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // It may be a link on this machine.
        drop(fs::remove_file(&path));
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Takes a program away, wherever it is.
    pub(crate) fn without(&self, name: &str) {
        for folder in ["usr/local/bin", "usr/bin", "usr/sbin", "bin", "sbin"] {
            drop(fs::remove_file(self.path(folder).join(name)));
        }
    }

    /// Mounts a folder of it anew, such as read-only.
    pub(crate) fn remount(&self, folder: &str, options: &str) {
        let folder = self.shown(folder);
        mount(&["--bind", &folder, &folder]);
        mount(&["-o", &format!("remount,bind,{options}"), &folder]);
    }

    /// Puts a small file system into the place of a folder.
    pub(crate) fn small(&self, folder: &str, size: &str) {
        let options = format!("mode=1777,size={size}");
        mount(&["-t", "tmpfs", "-o", &options, "tmpfs", &self.shown(folder)]);
    }

    /// A command on it, by root, with nothing in its environment but a search path.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_of("0:0", arguments)
    }

    /// The same by another user.
    pub(crate) fn command_of(&self, user: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("/usr/sbin/chroot");
        command
            .arg(format!("--userspec={user}"))
            .arg(self.path(""))
            .args(["/usr/bin/env", "-C", "/tmp"])
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// What the service manager was asked, a line a call.
    pub(crate) fn asked(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("run/calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Everything that was changed, and how it is now. Left out are the copies that the system
    /// keeps of its user database, and the books of the scripts above.
    pub(crate) fn changes(&self) -> Changes {
        let mut changes = Changes::new();
        let upper = self.folder.path().join("upper");
        walk(&upper, &upper, &mut changes);
        for folder in ["tmp", "var/tmp", "run", "opt"] {
            walk(&self.path(""), &self.path(folder), &mut changes);
        }
        changes
    }

    /// Fails the test if `secret` is in any file that was changed.
    #[track_caller]
    pub(crate) fn has_nowhere(&self, secret: &str) {
        let upper = self.folder.path().join("upper");
        let mut folders = vec![upper];
        folders.extend(["tmp", "var/tmp", "run", "opt"].map(|folder| self.path(folder)));
        for folder in folders {
            let found = Command::new("grep")
                .args(["-rlF", "-e", secret])
                .arg(&folder)
                .output()
                .unwrap();
            assert_eq!(found.status.code(), Some(1), "{found:?}");
        }
    }
}

/// Adds what is below `folder`, by its path on the host, where it differs from what the host has.
fn walk(top: &Path, folder: &Path, changes: &mut Changes) {
    const NOT_OURS: [&str; 8] = [
        "/etc/passwd-",
        "/etc/group-",
        "/etc/shadow-",
        "/etc/gshadow-",
        "/etc/.pwd.lock",
        "/etc/subuid-",
        "/etc/subgid-",
        "/run/calls",
    ];
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let on_host = Path::new("/").join(path.strip_prefix(top).unwrap());
        if NOT_OURS.iter().any(|other| on_host == Path::new(other)) {
            continue;
        }
        let now = describe(&path);
        let is_of_overlay = top.ends_with("upper");
        if !is_of_overlay || describe(&on_host) != now {
            changes.insert(on_host, now.unwrap());
        }
        if path.is_dir() && !path.is_symlink() {
            walk(top, &path, changes);
        }
    }
}

/// Type, permissions, owner and content; none where there is nothing.
fn describe(path: &Path) -> Option<String> {
    let metadata = fs::symlink_metadata(path).ok()?;
    let kind = metadata.file_type();
    let content = if kind.is_symlink() {
        format!("-> {}", fs::read_link(path).unwrap().display())
    } else if kind.is_file() {
        // A lock notes the process that held it last.
        let is_lock = path.ends_with("var/lib/monsys/lock");
        let bytes = if is_lock {
            Vec::new()
        } else {
            fs::read(path).unwrap()
        };
        format!("{} bytes, sum {}", bytes.len(), sum(&bytes))
    } else if kind.is_dir() {
        "folder".into()
    } else {
        // A character device in the overlay is a file that was taken away.
        format!("{kind:?}")
    };
    Some(format!(
        "{:o} {}:{} {content}",
        metadata.mode() & 0o7777,
        metadata.uid(),
        metadata.gid()
    ))
}

fn sum(bytes: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// Runs a prepared command to its end.
pub(crate) fn run(mut command: Command) -> Run {
    Run::of(command.spawn().unwrap())
}

#[track_caller]
fn mount(arguments: &[&str]) {
    let output = Command::new("mount").args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "mount {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Stands for systemd, which runs in booted hosts alone: keeps books of what it is asked, has the
/// service up or down, and fails to start it while `/run/broken` is there.
const SYSTEMCTL: &str = r#"#!/bin/sh
echo "$*" >>/run/calls
env | grep -q '^MONSYS_TOKEN=' && echo "TOKEN IN THE ENVIRONMENT" >>/run/calls
case $1 in
is-active) test -e /run/up ;;
start | restart)
  rm -f /run/up
  grep -q '^ExecStart=' /etc/systemd/system/monsys-agent.service || exit 5
  test ! -e /run/broken || { echo "Job for monsys-agent.service failed." >&2; exit 1; }
  touch /run/up
  ;;
stop) rm -f /run/up ;;
show) echo "StatusText=waiting" ;;
esac
"#;
