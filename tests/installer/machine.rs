//! A machine of one test: the files of this machine under an overlay, in a separate mount namespace.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::common::{Run, needs_root};

/// The search path of a root shell.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A machine. It exists in the mount namespace of the thread that made it.
pub(crate) struct Machine {
    folder: tempfile::TempDir,
}

impl Drop for Machine {
    /// Unmounts all of it, so that the removal of the folder reaches nothing of this machine, and succeeds.
    fn drop(&mut self) {
        let _ = umount2(self.folder.path(), MntFlags::MNT_DETACH);
    }
}

/// The changes of a machine: each path that differs from this machine, with its description.
pub(crate) type Changes = BTreeMap<PathBuf, String>;

impl Machine {
    /// Makes a machine like this one, without the agent, and with a running systemd (a script that
    /// records its calls).
    #[track_caller]
    pub(crate) fn new() -> Self {
        let machine = Self::without_manager();
        fs::create_dir_all(machine.path("run/systemd/system")).unwrap();
        machine.program("usr/bin/systemctl", SYSTEMCTL);
        machine.program(
            "usr/bin/journalctl",
            "#!/bin/sh\necho 'line of the journal'\n",
        );
        machine
    }

    /// Makes the same machine without a running service manager.
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

    /// Returns the path of a file of the machine in this namespace.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("root").join(path)
    }

    fn shown(&self, path: &str) -> String {
        self.path(path).display().to_string()
    }

    /// Writes a file.
    pub(crate) fn write_file(&self, path: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Writes an executable file.
    pub(crate) fn program(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // The path may be a link on this machine.
        drop(fs::remove_file(&path));
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Removes a program from every folder of the search path.
    pub(crate) fn remove_program(&self, name: &str) {
        for folder in ["usr/local/bin", "usr/bin", "usr/sbin", "bin", "sbin"] {
            drop(fs::remove_file(self.path(folder).join(name)));
        }
    }

    /// Remounts a folder, for example read-only.
    pub(crate) fn remount(&self, folder: &str, options: &str) {
        let folder = self.shown(folder);
        mount(&["--bind", &folder, &folder]);
        mount(&["-o", &format!("remount,bind,{options}"), &folder]);
    }

    /// Mounts a small file system over a folder.
    pub(crate) fn mount_small(&self, folder: &str, size: &str) {
        let options = format!("mode=1777,size={size}");
        mount(&["-t", "tmpfs", "-o", &options, "tmpfs", &self.shown(folder)]);
    }

    /// Returns a command on the machine, run by root with only PATH in its environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_of("0:0", arguments)
    }

    /// Returns a command on the machine, run by another user.
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

    /// Returns the recorded calls of systemctl, a line a call.
    pub(crate) fn service_calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("run/calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Returns every change. Backups of the user database and the records of the scripts are left out.
    pub(crate) fn changes(&self) -> Changes {
        let mut changes = Changes::new();
        let upper = self.folder.path().join("upper");
        walk(&upper, &upper, &mut changes);
        for folder in ["tmp", "var/tmp", "run", "opt"] {
            walk(&self.path(""), &self.path(folder), &mut changes);
        }
        changes
    }

    /// Panics if a changed file contains `secret`.
    #[track_caller]
    pub(crate) fn expect_no_file_with(&self, secret: &str) {
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

/// Adds each path below `folder` that differs from this machine, by its path on the machine.
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

/// Returns type, permissions, owner and content of a path, if it exists.
fn describe(path: &Path) -> Option<String> {
    let metadata = fs::symlink_metadata(path).ok()?;
    let kind = metadata.file_type();
    let content = if kind.is_symlink() {
        format!("-> {}", fs::read_link(path).unwrap().display())
    } else if kind.is_file() {
        // A lock file has the id of the process that took it last.
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
        // A character device in the overlay stands for a removed file.
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

/// Runs a command and returns its result.
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

/// Stand-in for systemctl, since systemd runs only on booted hosts: records its calls, keeps the state of
/// the service, and fails to start it while `/run/broken` exists.
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
