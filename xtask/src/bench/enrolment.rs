//! One enrolment, by the agent and by what one would do without it, against the same hub: what each
//! takes of time, processor, memory, system calls and network.

mod contender;
mod relay;
mod sample;

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

use crate::error::{Context, Result, Stop};
use crate::hub::{Hub, text};
use crate::{process, tools};
pub(crate) use contender::Contender;
pub(crate) use relay::Wire;
pub(crate) use sample::{Taken, instructions, packets, syscalls, taken, wire};

/// What runs.
#[derive(Clone)]
pub(crate) struct Programs {
    pub(crate) agent: PathBuf,
    pub(crate) floor: PathBuf,
    pub(crate) measure: PathBuf,
}

/// A hub, and a folder for the hosts that enrol there.
pub(crate) struct Scene {
    pub(crate) programs: Programs,
    pub(crate) hub: Hub,
    token: String,
    /// Facts of this machine, as they are sent.
    facts: serde_json::Value,
    folder: TempDir,
    hosts: Cell<usize>,
    /// The process whose network it is, when that is not everybody's.
    network: Option<u32>,
}

impl Scene {
    /// Starts the hub, whose commits go to a disk.
    pub(crate) async fn new(programs: Programs, hub: &Path) -> Result<Self> {
        let folder = scratch()?;
        let hub = Hub::start_on_disk(hub, &folder.path().join("hub")).await?;
        Self::with(programs, hub, folder).await
    }

    /// The same in a network of its own, whose packets are this scene's alone.
    pub(crate) async fn apart(programs: Programs, hub: &Path) -> Result<Self> {
        let folder = scratch()?;
        let hub = Hub::start_apart(hub, &folder.path().join("hub")).await?;
        let id = hub.id().ok_or_else(|| Stop::failed("the hub has ended"))?;
        tools::programs(&[("/usr/bin/curl", "curl")]).await?;
        // Its operator is in that network too.
        let mut mint = inside(id, "curl");
        mint.args(["-q", "-sS", "--fail", "--cacert"])
            .arg(hub.ca_file.clone().unwrap_or_default())
            .args(["-H", &format!("Authorization: Bearer {}", hub.admin_token)])
            .args([
                "-H",
                "Content-Type: application/json",
                "-d",
                &wanted().to_string(),
            ])
            .arg(format!("{}/api/v1/enrolment-tokens", hub.url));
        let minted = process::capture(&mut mint).await?;
        process::succeeded("minting a token", minted.status)?;
        let minted = serde_json::from_str(&minted.stdout).context(|| "the token".to_owned())?;
        let facts = facts(&programs.agent).await?;
        Ok(Self {
            programs,
            token: text(&minted, "token")?,
            facts,
            hub,
            folder,
            hosts: Cell::new(0),
            network: Some(id),
        })
    }

    async fn with(programs: Programs, hub: Hub, folder: TempDir) -> Result<Self> {
        let minted = hub.operator()?.post("enrolment-tokens", &wanted()).await?;
        let facts = facts(&programs.agent).await?;
        Ok(Self {
            programs,
            token: text(&minted, "token")?,
            facts,
            hub,
            folder,
            hosts: Cell::new(0),
            network: None,
        })
    }

    /// A program that runs in the hub's network.
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        match self.network {
            Some(id) => inside(id, program),
            None => Command::new(program),
        }
    }

    /// The folder of a host that nobody has seen: what the agent reads of one, and nothing else.
    fn host(&self) -> Result<PathBuf> {
        let number = self.hosts.get();
        self.hosts.set(number + 1);
        let root = self.folder.path().join(format!("host-{number:05}"));
        let what = || format!("could not write below {}", root.display());
        for folder in ["etc", "run", "var/lib"] {
            fs::create_dir_all(root.join(folder)).context(what)?;
        }
        let machine = format!("{:032x}\n", number + 1);
        fs::write(root.join("etc/machine-id"), machine).context(what)?;
        fs::write(root.join("etc/hostname"), "bench\n").context(what)?;
        let os_release = "NAME=\"Bench\"\nPRETTY_NAME=\"Bench Linux 1\"\nID=bench\n";
        fs::write(root.join("etc/os-release"), os_release).context(what)?;
        if let Some(ca_file) = &self.hub.ca_file {
            fs::copy(ca_file, root.join("etc/hub-ca.pem")).context(what)?;
        }
        Ok(root)
    }

    /// Ends the hub.
    pub(crate) async fn end(self) -> Result<()> {
        self.hub.stop().await
    }
}

/// The static agent of a release for this machine, or `agent`; and what runs beside it.
pub(crate) async fn programs(agent: Option<&Path>) -> Result<Programs> {
    let built = crate::dist::static_programs().await?;
    Ok(Programs {
        agent: agent.map_or(built.agent, Path::to_owned),
        floor: built.floor,
        measure: built.measure,
    })
}

fn inside(id: u32, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{id}/ns/net")).arg(program);
    command
}

/// What `facts` tells is exactly what an enrolment sends of the host.
async fn facts(agent: &Path) -> Result<serde_json::Value> {
    let root = scratch()?;
    let mut command = Command::new(agent);
    command.env_clear().arg("--root").arg(root.path()).args([
        "--output",
        "json",
        "facts",
        "--hub-url",
        "https://127.0.0.1:1",
    ]);
    let told = process::capture(&mut command).await?;
    process::succeeded("monsys-agent facts", told.status)?;
    serde_json::from_str(&told.stdout).context(|| "the facts".to_owned())
}

fn wanted() -> serde_json::Value {
    json!({"name": "bench", "ttl_secs": 86_400, "max_uses": 1_000_000})
}

fn scratch() -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix("monsys-bench-")
        .tempdir()
        .context(|| "could not make a scratch folder".to_owned())
}
