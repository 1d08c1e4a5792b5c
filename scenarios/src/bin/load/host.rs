//! One host: a root folder, and the agent run on it until it has enrolled.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::process::Command;

use super::dialect::{Dialect, OnDisk};
use scenarios::hub::Operator;
use xtask::error::{Context, Result, Stop};
use xtask::process::Running;

/// Longer than any run of an agent that gives up by itself.
const LIMIT: Duration = Duration::from_mins(10);
/// More than the replies to one host that are lost in a row.
const MOST_FIXES: usize = 10;

/// The state that all hosts share.
pub(crate) struct Site<D> {
    pub(crate) agent: PathBuf,
    /// The folder that holds the hosts' root folders.
    pub(crate) hosts: PathBuf,
    pub(crate) ca_file: PathBuf,
    /// The value of the agent's `--dialect`.
    pub(crate) name: &'static str,
    pub(crate) operator: Operator,
    pub(crate) dialect: D,
}

/// A host that is to enrol.
pub(crate) struct Host {
    root: PathBuf,
    /// Counted from 0; no two have the same.
    pub(crate) number: usize,
}

/// A host that has enrolled.
pub(crate) struct Enrolled {
    pub(crate) number: usize,
    /// From the first start to the exit with 0.
    pub(crate) took: Duration,
    pub(crate) retries: usize,
    /// The number of refusals whose hint the operator followed.
    pub(crate) fixed: usize,
    pub(crate) killed: bool,
    pub(crate) on_disk: OnDisk,
}

/// One run of the agent.
pub(crate) struct Ran {
    /// `None` if it was killed.
    status: Option<ExitStatus>,
    stderr: String,
}

/// Enrols the host of this number; kills the first run at `moment`, if it still runs then.
pub(crate) async fn enrol<D: Dialect>(
    site: &Site<D>,
    number: usize,
    moment: Option<Duration>,
) -> Result<Enrolled> {
    let host = Host::new(&site.hosts, number)?;
    let (operator, dialect) = (&site.operator, &site.dialect);
    dialect.prepare_host(operator, &host).await?;
    let start = Instant::now();
    let mut killed = false;
    if let Some(moment) = moment {
        killed = site.run(&host, moment).await?.status.is_none();
    }
    // Also after a run that was too quick to be killed: a second run changes nothing.
    let mut fixed = 0;
    loop {
        let ran = site.run(&host, LIMIT).await?;
        if ran.status.is_some_and(|status| status.success()) {
            break;
        }
        if fixed == MOST_FIXES || !dialect.fix(operator, &host, &ran).await? {
            return Err(ran.failure(number));
        }
        fixed += 1;
    }
    Ok(Enrolled {
        number,
        took: start.elapsed(),
        retries: host.log().matches("next try").count(),
        fixed,
        killed,
        on_disk: dialect.on_disk(&host)?,
    })
}

impl Host {
    /// Writes the files that the agent reads on any host.
    pub(crate) fn new(hosts: &Path, number: usize) -> Result<Self> {
        let root = hosts.join(number.to_string());
        let host = Self { root, number };
        host.write("etc/machine-id", &format!("{:032x}\n", number + 1))?;
        host.write("etc/os-release", "PRETTY_NAME=\"Load Linux\"\n")?;
        Ok(host)
    }

    /// Writes a file below its root.
    pub(crate) fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.root.join(path);
        path.parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&path, text))
            .context(|| format!("could not write {}", path.display()))
    }

    /// Reads a file below its root.
    pub(crate) fn read(&self, path: &str) -> Result<String> {
        fs::read_to_string(self.root.join(path)).context(|| self.what(path))
    }

    /// Names a file of the host in a message.
    pub(crate) fn what(&self, path: &str) -> String {
        format!("host {}: {path}", self.number)
    }

    fn log_file(&self) -> PathBuf {
        self.root.join("agent.log")
    }

    /// The log of all its runs.
    fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }
}

impl<D: Dialect> Site<D> {
    /// Runs the agent until it ends, and kills it when that takes longer than `time`.
    async fn run(&self, host: &Host, time: Duration) -> Result<Ran> {
        let log = host.log_file();
        let open =
            || -> std::io::Result<File> { OpenOptions::new().create(true).append(true).open(&log) };
        let stderr = open().context(|| format!("could not write {}", log.display()))?;
        let before = host.log().len();
        let mut command = Command::new(&self.agent);
        command
            .args(["enrol", "--dialect", self.name])
            .arg("--root")
            .arg(&host.root)
            .arg("--ca-file")
            .arg(&self.ca_file)
            .env_clear()
            .envs(self.dialect.variables(host))
            .stdout(Stdio::null())
            .stderr(stderr);
        let status = Running::spawn(&mut command)?.wait_or_kill(time).await?;
        Ok(Ran {
            status,
            stderr: host.log().split_off(before),
        })
    }
}

impl Ran {
    /// Returns whether it ended with this code and printed all these parts.
    pub(crate) fn refused(&self, code: i32, parts: &[&str]) -> bool {
        self.status.and_then(|status| status.code()) == Some(code)
            && parts.iter().all(|part| self.stderr.contains(part))
    }

    fn failure(&self, number: usize) -> Stop {
        let end = match self.status {
            Some(status) => status.to_string(),
            None => "still ran after ten minutes".to_owned(),
        };
        Stop::failed(format!("host {number}: {end}: {}", self.stderr.trim()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_refusal_has_its_code_and_all_its_parts() {
        let ran = |code: i32, stderr: &str| Ran {
            status: Some(ExitStatus::from_raw(code << 8)),
            stderr: stderr.to_owned(),
        };
        let is_lost = |ran: Ran| ran.refused(65, &["already exists", "was lost"]);
        assert!(is_lost(ran(65, "it already exists: an answer was lost")));
        assert!(!is_lost(ran(65, "it already exists")));
        assert!(!is_lost(ran(77, "it already exists: an answer was lost")));
    }
}
