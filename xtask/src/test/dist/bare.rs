//! The released binary where there is nothing but itself: no libc, no `/etc`, no `/dev`, no
//! certificates. And where there is the wrong thing: foreign libraries, another processor.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use super::{Count, named, require};
use crate::error::{Context, Result, Stop};
use crate::hub::{self, Hub};
use crate::process::{self, Running};
use crate::tools;

/// A name server of ours answers here; loopback is all of 127.0.0.0/8.
const NAME_SERVER: &str = "127.77.7.53";

pub(super) async fn run(dist: &Path, count: &mut Count) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Stop::missing("needs root, for chroot"));
    }
    let scratch = tempfile::tempdir().context(|| "no scratch folder".to_owned())?;
    let hub = Hub::start(&tools::build().await?.hub, scratch.path()).await?;
    let binary = |arch: &str| dist.join(named(&format!("-linux-{arch}")));
    count.check(
        "in an empty root, by the hub's address",
        empty_root(&hub, &binary("x86_64")).await,
    );
    count.check(
        "in an empty root with /etc/hosts, by the hub's name",
        hosts_file(&hub, &binary("x86_64")).await,
    );
    count.check(
        "in an empty root with /etc/resolv.conf, by the hub's name",
        name_server(&hub, &binary("x86_64")).await,
    );
    count.check(
        "whatever nsswitch.conf names, and whatever libraries there are",
        foreign_libraries(&hub, &binary("x86_64")).await,
    );
    count.check(
        "on aarch64, by qemu",
        other_processor(&hub, &binary("aarch64")).await,
    );
    hub.stop().await
}

async fn empty_root(hub: &Hub, binary: &Path) -> Result<()> {
    let root = Root::with(binary)?;
    root.enrol(hub, "127.0.0.1").await?;
    // Nothing but what the contract says is there afterwards.
    require(
        root.files()?
            == [
                "/etc/monsys/agent.toml",
                "/monsys-agent",
                "/var/lib/monsys/agent-id",
                "/var/lib/monsys/agent-signing.key",
                "/var/lib/monsys/lock",
                "/var/lib/monsys/state.json",
            ],
        || format!("{:?}", root.files()),
    )
}

async fn hosts_file(hub: &Hub, binary: &Path) -> Result<()> {
    let root = Root::with(binary)?;
    root.write("etc/hosts", "127.0.0.1 localhost\n")?;
    root.enrol(hub, "localhost").await
}

async fn name_server(hub: &Hub, binary: &Path) -> Result<()> {
    if !Path::new("/usr/sbin/dnsmasq").exists() {
        tools::apt(&["dnsmasq-base"]).await?;
    }
    let root = Root::with(binary)?;
    root.write("etc/resolv.conf", &format!("nameserver {NAME_SERVER}\n"))?;
    let mut dnsmasq = Command::new("/usr/sbin/dnsmasq");
    dnsmasq
        .args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--user=root",
        ])
        .args([
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
            "--pid-file=",
        ])
        .args(["--log-facility=-", "--address=/localhost/127.0.0.1"])
        // It has no IPv6 address, and that is an answer: musl takes a refusal for a failure.
        .arg("--local=/localhost/")
        .arg(format!("--listen-address={NAME_SERVER}"));
    // The agent's own retries wait for it.
    let dnsmasq = Running::spawn(&mut dnsmasq)?;
    root.enrol(hub, "localhost").await?;
    dnsmasq.terminate().await.map(drop)
}

/// glibc's resolver would load these, and die of them.
async fn foreign_libraries(hub: &Hub, binary: &Path) -> Result<()> {
    for hosts in [
        "files dns",
        "mymachines resolve [!UNAVAIL=return] files myhostname dns",
        "wins nis nisplus ldap",
        "",
    ] {
        let root = Root::with(binary)?;
        root.write("etc/hosts", "127.0.0.1 localhost\n")?;
        root.write(
            "etc/nsswitch.conf",
            &format!("passwd: sss\nhosts: {hosts}\n"),
        )?;
        for folder in ["lib", "lib64", "lib/x86_64-linux-gnu", "usr/lib"] {
            for library in [
                "libc.so.6",
                "ld-linux-x86-64.so.2",
                "libnss_files.so.2",
                "libnss_dns.so.2",
                "libnss_resolve.so.2",
            ] {
                root.write(
                    &format!("{folder}/{library}"),
                    "not a library of this release\n",
                )?;
            }
        }
        root.enrol(hub, "localhost").await?;
    }
    Ok(())
}

async fn other_processor(hub: &Hub, binary: &Path) -> Result<()> {
    let qemu = "/usr/bin/qemu-aarch64-static";
    if !Path::new(qemu).exists() {
        tools::apt(&["qemu-user-static"]).await?;
    }
    let root = Root::with(binary)?;
    let mut command = Command::new(qemu);
    command.arg(binary).arg("--root").arg(root.folder.path());
    let id = enrol(command, hub, "127.0.0.1").await?;
    let agent = hub.operator()?.get(&format!("agents/{id}")).await?;
    require(agent["facts"]["architecture"] == "arm64", || {
        agent.to_string()
    })
}

/// A root folder with the binary in it, and nothing else.
struct Root {
    folder: TempDir,
}

impl Root {
    fn with(binary: &Path) -> Result<Self> {
        let what = || "no scratch folder".to_owned();
        let folder = tempfile::tempdir().context(what)?;
        fs::copy(binary, folder.path().join("monsys-agent")).context(what)?;
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), open).context(what)?;
        Ok(Self { folder })
    }

    fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.folder.path().join(path);
        let what = || format!("could not write {}", path.display());
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).context(what)?;
        fs::write(&path, text).context(what)
    }

    async fn enrol(&self, hub: &Hub, host: &str) -> Result<()> {
        enrol(self.agent(), hub, host).await?;
        let mut status = self.agent();
        process::run(status.arg("status")).await
    }

    /// The agent, for which this folder is all that there is.
    fn agent(&self) -> Command {
        let mut chroot = Command::new("chroot");
        chroot.arg(self.folder.path()).arg("/monsys-agent");
        chroot
    }

    /// All files, by their path below the folder.
    fn files(&self) -> Result<Vec<String>> {
        let what = || "could not read the root".to_owned();
        let (mut open, mut files) = (vec![self.folder.path().to_owned()], Vec::new());
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(&folder).context(what)? {
                let path: PathBuf = entry.context(what)?.path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    let inner = path.strip_prefix(self.folder.path()).context(what)?;
                    files.push(format!("/{}", inner.display()));
                }
            }
        }
        files.sort();
        Ok(files)
    }
}

/// Enrols with a token of one use, trusting the hub by its pin alone; the agent's id.
async fn enrol(mut agent: Command, hub: &Hub, host: &str) -> Result<String> {
    let asked = json!({"name": "bare", "ttl_secs": 3600, "max_uses": 1});
    let minted = hub.operator()?.post("enrolment-tokens", &asked).await?;
    let (_, port) = hub.url.rsplit_once(':').unwrap_or_default();
    let pin = hub.ca_pin.as_deref().unwrap_or_default();
    agent
        .args([
            "enrol", "--output", "json", "--wait", "60s", "--ca-pin", pin,
        ])
        .args(["--hub-url", &format!("https://{host}:{port}")])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("MONSYS_TOKEN", hub::text(&minted, "token")?);
    let ran = process::capture(&mut agent).await?;
    let said: Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
    require(ran.status.success() && said["result"] == "enrolled", || {
        format!("{}: {}", ran.status, ran.text())
    })?;
    hub::text(&said, "agent_id")
}
