//! A booted host: systemd as process 1 of a container with its own disk and network.

use std::fs::{self, File};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use memchr::memmem::Finder;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cgroup::Cgroup;
use crate::common::namespace::Namespace;
use crate::disk::Disk;

/// Longest time for a host to boot or shut down.
const PATIENCE: Duration = Duration::from_mins(5);

/// A running host. Dropping it cuts its power.
pub(crate) struct Machine<'a> {
    pub(crate) disk: &'a Disk,
    nspawn: Child,
    leader: u32,
    notices: UnixDatagram,
    cgroup: Cgroup,
    network: Option<Namespace>,
}

/// The result of a command on a host.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl<'a> Machine<'a> {
    /// Starts the host and waits until its first process runs.
    pub(crate) fn start(disk: &'a Disk, network: Namespace) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let cgroup = Cgroup::new(&format!("monsys-test-{}-{number}", std::process::id()));
        let socket = disk.beside("notify");
        let _ = fs::remove_file(&socket);
        let notices = UnixDatagram::bind(&socket).unwrap();
        notices.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut machine = Self {
            disk,
            nspawn: nspawn(disk, &network, &cgroup, &socket),
            leader: 0,
            notices,
            cgroup,
            network: Some(network),
        };
        let leader = machine.wait_for("X_NSPAWN_LEADER_PID=");
        machine.leader = leader.parse().unwrap();
        machine
    }

    /// Waits until all services of the boot have started or failed.
    #[track_caller]
    pub(crate) fn up(self) -> Self {
        self.wait_for("READY=");
        self
    }

    /// Waits for a line of the container that begins with `wanted`; returns the rest of the line.
    #[track_caller]
    fn wait_for(&self, wanted: &str) -> String {
        let mut bytes = [0; 4096];
        loop {
            let Ok(length) = self.notices.recv(&mut bytes) else {
                panic!("{} never sent {wanted}\n{}", self.disk.name, self.console());
            };
            let text = String::from_utf8_lossy(&bytes[..length]);
            if let Some(rest) = text.lines().find_map(|line| line.strip_prefix(wanted)) {
                return rest.to_owned();
            }
        }
    }

    /// Returns the output of the boot.
    fn console(&self) -> String {
        fs::read_to_string(self.disk.beside("console")).unwrap_or_default()
    }

    /// Returns the path of a file of the running host, including `/run` and `/tmp`.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/{path}", self.leader))
    }

    /// Returns a command on the host, as root, with a minimal environment.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.leader))
            .args([
                "--all",
                "--",
                "/usr/bin/env",
                "-i",
                "HOME=/root",
                "TERM=dumb",
            ])
            .arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .arg(program)
            .stdin(Stdio::null());
        command
    }

    /// Runs a line of shell on the host, with these variables in its environment.
    pub(crate) fn run_with(&self, variables: &[(&str, &str)], line: &str) -> Ran {
        // Through standard input, since every user can read arguments.
        let mut command = self.command("sh");
        let exports = variables
            .iter()
            .fold(String::new(), |lines, (name, value)| {
                let value = value.replace('\'', "'\\''");
                lines + &format!("{name}='{value}'; export {name}\n")
            });
        command.arg("-s").stdin(Stdio::piped());
        let script = format!("{exports}exec </dev/null\n{line}\n");
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, script.as_bytes()).unwrap();
        drop(stdin);
        Ran::of(child)
    }

    /// Runs a line of shell on the host.
    pub(crate) fn run(&self, line: &str) -> Ran {
        self.run_with(&[], line)
    }

    /// Runs a line of shell on the host; panics unless it succeeds, and returns its output.
    #[track_caller]
    pub(crate) fn run_ok(&self, line: &str) -> String {
        let ran = self.run(line);
        assert_eq!(ran.code, 0, "{line}\n{}{}", ran.stderr, ran.stdout);
        ran.stdout
    }

    /// Returns the host's journal since its boot.
    pub(crate) fn journal(&self) -> String {
        self.run_ok("journalctl --boot --no-pager --output=short-precise")
    }

    /// Returns the files of the running host that contain `needle`, and how many files were read.
    pub(crate) fn files_with(&self, needle: &str) -> (Vec<PathBuf>, usize) {
        let mut found = Vec::new();
        let mut read = 0;
        let needle = Finder::new(needle);
        let root = self.path("");
        for top in fs::read_dir(&root).unwrap().flatten() {
            if ["proc", "sys"]
                .iter()
                .any(|kernels| top.file_name() == *kernels)
            {
                continue;
            }
            crate::disk::walk(&top.path(), &mut |path, metadata| {
                if !metadata.is_file() {
                    return;
                }
                let bytes = fs::read(path).unwrap_or_default();
                read += 1;
                if needle.find(&bytes).is_some() {
                    found.push(path.strip_prefix(&root).unwrap().to_path_buf());
                }
            });
        }
        (found, read)
    }

    /// Reboots the host from inside and waits until it is up.
    pub(crate) fn reboot(mut self) -> Self {
        let network = self.network.take().unwrap();
        // The host closes the connection before it responds.
        let _ = self.run("systemctl reboot");
        self.ended();
        let disk = self.disk;
        drop(self);
        Self::start(disk, network).up()
    }

    /// Shuts the host down regularly.
    pub(crate) fn power_off(mut self) {
        let id = i32::try_from(self.nspawn.id()).unwrap();
        kill(Pid::from_raw(id), Signal::SIGTERM).unwrap();
        self.ended();
    }

    /// Cuts the power. Unwritten data is lost; the disk can be booted again.
    pub(crate) fn pull_plug(mut self) -> Self {
        let network = self.network.take().unwrap();
        let disk = self.disk;
        drop(self);
        Self::start(disk, network).up()
    }

    fn ended(&mut self) {
        crate::eventually("the end of a host", || {
            self.nspawn.try_wait().unwrap().is_some()
        });
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.run("journalctl --boot --no-pager --lines=60 --priority=info");
            let name = &self.disk.name;
            eprintln!("--- console of {name}\n{}", self.console());
            eprintln!("--- journal of {name}\n{}{}", log.stdout, log.stderr);
        }
        let _ = self.nspawn.kill();
        self.cgroup.kill();
        let _ = self.nspawn.wait();
    }
}

impl Ran {
    fn of(child: Child) -> Self {
        let output = child.wait_with_output().unwrap();
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Panics unless the command exited with this code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}{}", self.stderr, self.stdout);
        self
    }
}

/// Starts the container, which is killed with the thread that started it.
fn nspawn(disk: &Disk, network: &Namespace, cgroup: &Cgroup, notify: &std::path::Path) -> Child {
    const COME_IN: &str =
        r#"while [ "$1" != -- ]; do echo $$ >"$1"; shift; done; shift; exec "$@""#;
    let console = File::create(disk.beside("console")).unwrap();
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "sh", "-c", COME_IN, "sh"])
        .args(cgroup.doors())
        .args(["--", "systemd-nspawn", "--quiet", "--boot", "--register=no"])
        .args(["--keep-unit", "--notify-ready=yes", "--link-journal=no"])
        .args(["--resolv-conf=off", "--timezone=off", "--console=pipe"])
        .arg(format!("--machine={}", disk.name))
        .arg(format!("--directory={}", disk.root().display()))
        .arg(format!("--network-namespace-path={}", network.path()))
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
        .env("NOTIFY_SOCKET", notify)
        .stdin(Stdio::null())
        .stdout(console.try_clone().unwrap())
        .stderr(console)
        .spawn()
        .unwrap()
}
