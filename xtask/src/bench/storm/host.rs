//! One host: a root folder, and the agent run on it until it has enrolled.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::Command;

use crate::error::{Context, Result, Stop};
use crate::process::Running;

/// Longer than an agent takes that gives up by itself.
const LIMIT: Duration = Duration::from_mins(10);

/// What all hosts share.
pub(super) struct Site {
    pub(super) agent: PathBuf,
    /// The folder that holds the hosts' root folders.
    pub(super) hosts: PathBuf,
    pub(super) hub_url: String,
    pub(super) ca_file: PathBuf,
    pub(super) token: String,
}

/// A host that has enrolled, by what is on its disk.
pub(super) struct Enrolled {
    /// From the first start to the end that was 0.
    pub(super) took: Duration,
    pub(super) retries: usize,
    pub(super) killed: bool,
    pub(super) agent_id: String,
    pub(super) agent_token: String,
}

/// Enrols the host of this number; kills the first run at `moment`, if it still runs then.
pub(super) async fn enrol(
    site: &Site,
    number: usize,
    moment: Option<Duration>,
) -> Result<Enrolled> {
    let root = site.hosts.join(number.to_string());
    furnish(&root, number)?;
    let log = root.join("agent.log");
    let start = Instant::now();
    let mut killed = false;
    if let Some(moment) = moment {
        killed = agent(site, &root, &log)?
            .wait_or_kill(moment)
            .await?
            .is_none();
    }
    // Also after a run that was too quick to be killed: then it is enrolled, and stays it.
    let status = agent(site, &root, &log)?.wait_or_kill(LIMIT).await?;
    let took = start.elapsed();
    let said = fs::read_to_string(&log).unwrap_or_default();
    if !status.is_some_and(|status| status.success()) {
        let end = status.map_or("still ran after ten minutes".to_owned(), |s| s.to_string());
        return Err(Stop::failed(format!(
            "host {number}: {end}: {}",
            said.trim()
        )));
    }
    let path = root.join("etc/monsys/agent.toml");
    let what = || format!("host {number}: {}", path.display());
    let file: toml::Table = fs::read_to_string(&path)
        .context(what)?
        .parse()
        .context(what)?;
    let value = |key: &str| {
        let value = file.get(key).and_then(toml::Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    Ok(Enrolled {
        took,
        retries: said.matches("next try").count(),
        killed,
        agent_id: value("agent_id"),
        agent_token: value("agent_token"),
    })
}

/// What the agent reads of a host.
fn furnish(root: &Path, number: usize) -> Result<()> {
    let etc = root.join("etc");
    let what = || format!("could not write below {}", etc.display());
    fs::create_dir_all(&etc).context(what)?;
    fs::write(etc.join("machine-id"), format!("{:032x}\n", number + 1)).context(what)?;
    fs::write(etc.join("os-release"), "PRETTY_NAME=\"Storm Linux\"\n").context(what)
}

fn agent(site: &Site, root: &Path, log: &Path) -> Result<Running> {
    let open =
        || -> std::io::Result<File> { OpenOptions::new().create(true).append(true).open(log) };
    let stderr = open().context(|| format!("could not write {}", log.display()))?;
    let mut command = Command::new(&site.agent);
    command
        .args(["enrol", "--hub-url", &site.hub_url])
        .arg("--root")
        .arg(root)
        .arg("--ca-file")
        .arg(&site.ca_file)
        .env_clear()
        .env("MONSYS_TOKEN", &site.token)
        .stdout(Stdio::null())
        .stderr(stderr);
    Running::spawn(&mut command)
}
