//! The released binary where there is nothing but itself: no libc, no `/etc`, no `/dev`, no
//! certificates. And where there is the wrong thing: foreign libraries, another processor.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{Mint, TestHub, until};
use crate::{binary_name, dist, succeeded, text};

/// The address of our own name server; loopback is all of 127.0.0.0/8.
const NAME_SERVER: &str = "127.77.7.53";

#[test]
#[ignore = "needs root: changes its root folder"]
fn in_an_empty_root_it_enrols_by_the_hubs_address() {
    let root = Root::new();
    root.enrol("127.0.0.1");
    // Only the contract's files are there afterwards.
    assert_eq!(
        root.files(),
        [
            "/etc/monsys/agent.toml",
            "/monsys-agent",
            "/var/lib/monsys/agent-id",
            "/var/lib/monsys/agent-signing.key",
            "/var/lib/monsys/lock",
            "/var/lib/monsys/state.json",
        ]
    );
}

#[test]
#[ignore = "needs root: changes its root folder"]
fn with_etc_hosts_it_enrols_by_the_hubs_name() {
    let root = Root::new();
    root.write("etc/hosts", "127.0.0.1 localhost\n");
    root.enrol("localhost");
}

#[test]
#[ignore = "needs root: changes its root folder, and answers port 53"]
fn with_a_name_server_it_enrols_by_the_hubs_name() {
    let root = Root::new();
    root.write("etc/resolv.conf", &format!("nameserver {NAME_SERVER}\n"));
    let mut dnsmasq = Command::new("/usr/sbin/dnsmasq")
        .args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--user=root",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
            "--pid-file=",
            "--log-facility=-",
            "--address=/localhost/127.0.0.1",
        ])
        .arg(format!("--listen-address={NAME_SERVER}"))
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    until("the name server to listen", || {
        TcpStream::connect((NAME_SERVER, 53)).is_ok()
    });
    let output = root.try_enrol("localhost");
    dnsmasq.kill().unwrap();
    dnsmasq.wait().unwrap();
    output.unwrap();
}

/// glibc's resolver would load these, and crash.
#[test]
#[ignore = "needs root: changes its root folder"]
fn whatever_nsswitch_conf_and_the_libraries_are_it_enrols() {
    for hosts in [
        "files dns",
        "mymachines resolve [!UNAVAIL=return] files myhostname dns",
        "wins nis nisplus ldap",
        "",
    ] {
        let root = Root::new();
        root.write("etc/hosts", "127.0.0.1 localhost\n");
        let nsswitch = format!("passwd: sss\nhosts: {hosts}\n");
        root.write("etc/nsswitch.conf", &nsswitch);
        for folder in ["lib", "lib64", "lib/x86_64-linux-gnu", "usr/lib"] {
            for library in [
                "libc.so.6",
                "ld-linux-x86-64.so.2",
                "libnss_files.so.2",
                "libnss_dns.so.2",
                "libnss_resolve.so.2",
            ] {
                let text = "not a library of this release\n";
                root.write(&format!("{folder}/{library}"), text);
            }
        }
        root.enrol("localhost");
    }
}

#[test]
fn on_aarch64_it_enrols_under_qemu() {
    let hub = TestHub::new();
    let root = tempfile::tempdir().unwrap();
    let mut qemu = Command::new("/usr/bin/qemu-aarch64-static");
    qemu.arg(dist().join(binary_name("aarch64")))
        .arg("--root")
        .arg(root.path());
    enrol(qemu, &hub, "127.0.0.1").unwrap();
    assert_eq!(hub.agents()[0]["facts"]["architecture"], "arm64");
}

/// A root folder with the binary in it and nothing else, and a hub.
struct Root {
    folder: TempDir,
    hub: TestHub,
}

impl Root {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("monsys-agent");
        fs::copy(dist().join(binary_name("x86_64")), program).unwrap();
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), open).unwrap();
        Self {
            folder,
            hub: TestHub::new(),
        }
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }

    #[track_caller]
    fn enrol(&self, host: &str) {
        self.try_enrol(host).unwrap();
    }

    fn try_enrol(&self, host: &str) -> Result<(), String> {
        enrol(self.agent(), &self.hub, host)?;
        succeeded(self.agent().arg("status"));
        Ok(())
    }

    /// The agent, whose root is this folder.
    fn agent(&self) -> Command {
        let mut chroot = Command::new("chroot");
        chroot.arg(self.folder.path()).arg("/monsys-agent");
        chroot
    }

    /// All files, by their path below the folder, sorted.
    fn files(&self) -> Vec<String> {
        let (mut open, mut files) = (vec![self.folder.path().to_owned()], Vec::new());
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let path: PathBuf = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    let inner = path.strip_prefix(self.folder.path()).unwrap();
                    files.push(Path::new("/").join(inner).display().to_string());
                }
            }
        }
        files.sort();
        files
    }
}

/// Enrols with a token of one use; the hub is trusted by its pin alone.
fn enrol(mut agent: Command, hub: &TestHub, host: &str) -> Result<(), String> {
    let (token, _) = hub.mint(&Mint::new().with("max_uses", 1.into()));
    let url = hub.url();
    let (_, port) = url.rsplit_once(':').unwrap();
    agent
        .args(["enrol", "--output", "json", "--wait", "60s", "--ca-pin"])
        .args([&hub.ca_pin(), "--hub-url"])
        .arg(format!("https://{host}:{}", port.trim_end_matches('/')))
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("MONSYS_TOKEN", token);
    let output = agent.output().unwrap();
    let stdout: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    if output.status.success() && stdout["result"] == "enrolled" {
        return Ok(());
    }
    Err(format!("{}: {}", output.status, text(&output)))
}
