//! One host: a root folder, and the agent run on it until it has enrolled.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::process::Command;

use super::system::{Held, System};
use crate::error::{Context, Result, Stop};
use crate::hub::Operator;
use crate::process::Running;

/// Longer than an agent takes that gives up by itself.
const LIMIT: Duration = Duration::from_mins(10);
/// More often than replies to one host are lost in a row.
const MOST_FIXES: usize = 10;

/// What all hosts share.
pub(super) struct Site<S> {
    pub(super) agent: PathBuf,
    /// The folder that holds the hosts' root folders.
    pub(super) hosts: PathBuf,
    pub(super) ca_file: PathBuf,
    pub(super) dialect: String,
    pub(super) operator: Operator,
    pub(super) system: S,
}

/// A host that is to enrol.
pub(super) struct Host {
    root: PathBuf,
    /// Counted from 0; no two have the same.
    pub(super) number: usize,
}

/// A host that has enrolled, by what is on its disk.
pub(super) struct Enrolled {
    pub(super) number: usize,
    /// From the first start to the end that was 0.
    pub(super) took: Duration,
    pub(super) retries: usize,
    /// How often the operator did what a refusal told.
    pub(super) fixed: usize,
    pub(super) killed: bool,
    pub(super) held: Held,
}

/// What came of one run of the agent.
pub(super) struct Ran {
    /// `None` if it was killed.
    status: Option<ExitStatus>,
    said: String,
}

/// Enrols the host of this number; kills the first run at `moment`, if it still runs then.
pub(super) async fn enrol<S: System>(
    site: &Site<S>,
    number: usize,
    moment: Option<Duration>,
) -> Result<Enrolled> {
    let host = Host::new(&site.hosts, number)?;
    let (operator, system) = (&site.operator, &site.system);
    system.furnish(operator, &host).await?;
    let start = Instant::now();
    let mut killed = false;
    if let Some(moment) = moment {
        killed = site.run(&host, moment).await?.status.is_none();
    }
    // Also after a run that was too quick to be killed: then it is enrolled, and stays it.
    let mut fixed = 0;
    loop {
        let ran = site.run(&host, LIMIT).await?;
        if ran.status.is_some_and(|status| status.success()) {
            break;
        }
        if fixed == MOST_FIXES || !system.fix(operator, &host, &ran).await? {
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
        held: system.held(&host)?,
    })
}

impl Host {
    /// Lays out what the agent reads of any host.
    pub(super) fn new(hosts: &Path, number: usize) -> Result<Self> {
        let root = hosts.join(number.to_string());
        let host = Self { root, number };
        host.lay("etc/machine-id", &format!("{:032x}\n", number + 1))?;
        host.lay("etc/os-release", "PRETTY_NAME=\"Storm Linux\"\n")?;
        Ok(host)
    }

    /// Writes a file below its root.
    pub(super) fn lay(&self, path: &str, text: &str) -> Result<()> {
        let path = self.root.join(path);
        path.parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&path, text))
            .context(|| format!("could not write {}", path.display()))
    }

    /// Reads a file below its root.
    pub(super) fn read(&self, path: &str) -> Result<String> {
        fs::read_to_string(self.root.join(path)).context(|| self.what(path))
    }

    /// A file of the host, as it goes into a message.
    pub(super) fn what(&self, path: &str) -> String {
        format!("host {}: {path}", self.number)
    }

    fn log_file(&self) -> PathBuf {
        self.root.join("agent.log")
    }

    /// All that its runs have said.
    fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }
}

impl<S: System> Site<S> {
    /// Runs the agent until it ends, and kills it when that takes longer than `time`.
    async fn run(&self, host: &Host, time: Duration) -> Result<Ran> {
        let log = host.log_file();
        let open =
            || -> std::io::Result<File> { OpenOptions::new().create(true).append(true).open(&log) };
        let stderr = open().context(|| format!("could not write {}", log.display()))?;
        let before = host.log().len();
        let mut command = Command::new(&self.agent);
        command
            .args(["enrol", "--dialect", &self.dialect])
            .arg("--root")
            .arg(&host.root)
            .arg("--ca-file")
            .arg(&self.ca_file)
            .env_clear()
            .envs(self.system.variables(host))
            .stdout(Stdio::null())
            .stderr(stderr);
        let status = Running::spawn(&mut command)?.wait_or_kill(time).await?;
        Ok(Ran {
            status,
            said: host.log().split_off(before),
        })
    }
}

impl Ran {
    /// Whether it ended with this code, and said all of this.
    pub(super) fn refused(&self, code: i32, parts: &[&str]) -> bool {
        self.status.and_then(|status| status.code()) == Some(code)
            && parts.iter().all(|part| self.said.contains(part))
    }

    fn failure(&self, number: usize) -> Stop {
        let end = match self.status {
            Some(status) => status.to_string(),
            None => "still ran after ten minutes".to_owned(),
        };
        Stop::failed(format!("host {number}: {end}: {}", self.said.trim()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_refusal_is_known_by_its_code_and_by_all_that_it_has_to_say() {
        let ran = |code: i32, said: &str| Ran {
            status: Some(ExitStatus::from_raw(code << 8)),
            said: said.to_owned(),
        };
        let is_lost = |ran: Ran| ran.refused(65, &["already exists", "was lost"]);
        assert!(is_lost(ran(65, "it already exists: an answer was lost")));
        assert!(!is_lost(ran(65, "it already exists")));
        assert!(!is_lost(ran(77, "it already exists: an answer was lost")));
    }
}
