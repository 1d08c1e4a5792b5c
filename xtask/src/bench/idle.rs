//! `cargo xtask bench idle`: what a running agent costs a host that does nothing else.
//!
//! The released agent's `run` on a scratch root, heartbeats over TLS to the released hub on
//! loopback, on the hub's own interval. What the kernel counts for the process is read before and
//! after; it fails only when the hub has not heard from the agent meanwhile.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::error::{Context, Result, Stop};
use crate::hub::{Hub, Operator, text};
use crate::process::{self, Running};
use crate::tools;

pub(super) const ABOUT: &str = "\
Resident is what the kernel keeps in memory for the process (RSS), its share is PSS: a page that n
processes share counts as an nth. Wake-ups are voluntary context switches of all its threads.

Examples:
  cargo xtask bench idle
  cargo xtask bench idle --seconds 600 --agent target/x86_64-unknown-linux-musl/release/monsys-agent";

/// How long the hub may wait for the first heartbeat.
const START: Duration = Duration::from_secs(30);

#[derive(Args)]
pub(crate) struct Options {
    /// How long it is watched
    #[arg(long, value_name = "N", default_value = "60",
          value_parser = clap::value_parser!(u32).range(35..=86_400))]
    seconds: u32,

    /// Watch this program and not the one that is built here
    #[arg(long, value_name = "PATH")]
    agent: Option<PathBuf>,
}

pub(super) async fn run(options: &Options) -> Result<()> {
    eprintln!("building the released agent and hub (the first time takes minutes)");
    let programs = tools::build_release().await?;
    let agent = options.agent.clone().unwrap_or(programs.agent);
    let watched = watch(&agent, &programs.hub, options.seconds).await?;
    print!("{watched}");
    Ok(())
}

/// Watches `agent` for so many seconds.
pub(super) async fn watch(agent: &Path, hub: &Path, seconds: u32) -> Result<Watched> {
    let scratch = tempfile::Builder::new()
        .prefix("monsys-idle-")
        .tempdir()
        .context(|| "could not make a scratch folder".to_owned())?;
    let hub = Hub::start(hub, &scratch.path().join("hub")).await?;
    let operator = hub.operator()?;
    let root = furnish(&scratch, &hub)?;
    enrol(agent, &root, &hub, &operator).await?;

    let running = Running::spawn(
        bare(agent, &root)
            .arg("run")
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    )?;
    let id = running
        .id()
        .ok_or_else(|| Stop::failed("the agent has ended"))?;
    let first = first_heartbeat(&operator).await?;
    // Threads that resolved names and read the CA at the start end within ten seconds.
    sleep(Duration::from_secs(15)).await;

    eprintln!("watching process {id} for {seconds} s");
    let (before, start) = (Counters::of(id)?, Instant::now());
    sleep(Duration::from_secs(u64::from(seconds))).await;
    let (after, time) = (Counters::of(id)?, start.elapsed());
    let last = heartbeat(&operator).await?;
    let memory = Memory::of(id)?;
    process::succeeded("monsys-agent run", running.terminate().await?)?;
    hub.stop().await?;
    if last == first {
        return Err(Stop::failed("the hub heard no further heartbeat meanwhile"));
    }
    Ok(Watched {
        size: fs::metadata(agent)
            .context(|| format!("could not look at {}", agent.display()))?
            .len(),
        agent: agent.to_owned(),
        memory,
        used: before.until(&after),
        time,
    })
}

/// What the kernel told.
pub(super) struct Watched {
    agent: PathBuf,
    pub(super) size: u64,
    memory: Memory,
    used: Counters,
    time: Duration,
}

impl Watched {
    /// Resident memory, in KiB.
    pub(super) fn resident(&self) -> u64 {
        self.memory.resident
    }

    /// Wake-ups a minute.
    pub(super) fn wake_ups(&self) -> f64 {
        self.per_minute(self.used.woken)
    }

    fn per_minute(&self, count: u64) -> f64 {
        let minutes = self.time.as_secs_f64() / 60.0;
        f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / minutes
    }
}

/// A host's root with the hub's CA in it.
fn furnish(scratch: &TempDir, hub: &Hub) -> Result<PathBuf> {
    let root = scratch.path().join("host");
    let etc = root.join("etc");
    let what = || format!("could not write below {}", etc.display());
    // Where systemd has its RuntimeDirectory, no disk is written.
    fs::create_dir_all(root.join("run/monsys")).context(what)?;
    fs::create_dir_all(&etc).context(what)?;
    fs::write(etc.join("machine-id"), format!("{:032x}\n", 1)).context(what)?;
    if let Some(ca_file) = &hub.ca_file {
        fs::copy(ca_file, etc.join("hub-ca.pem")).context(what)?;
    }
    Ok(root)
}

fn bare(agent: &Path, root: &Path) -> Command {
    let mut command = Command::new(agent);
    command.arg("--root").arg(root).env_clear();
    command
}

async fn enrol(agent: &Path, root: &Path, hub: &Hub, operator: &Operator) -> Result<()> {
    let wanted = json!({"name": "idle", "ttl_secs": 86_400, "max_uses": 1});
    let minted = operator.post("enrolment-tokens", &wanted).await?;
    let mut command = bare(agent, root);
    command
        .args(["enrol", "--hub-url", &hub.url, "--ca-file"])
        .arg(root.join("etc/hub-ca.pem"))
        .env("MONSYS_TOKEN", text(&minted, "token")?);
    let run = process::capture(&mut command).await?;
    if run.status.success() {
        return Ok(());
    }
    Err(Stop::failed(run.text()))
}

/// When the agent captured the last heartbeat that the hub took.
async fn heartbeat(operator: &Operator) -> Result<Option<String>> {
    let agents = operator.get("agents").await?;
    let at = &agents["agents"][0]["last_heartbeat"]["captured_at"];
    Ok(Value::as_str(at).map(str::to_owned))
}

async fn first_heartbeat(operator: &Operator) -> Result<Option<String>> {
    let start = Instant::now();
    while start.elapsed() < START {
        let at = heartbeat(operator).await?;
        if at.is_some() {
            return Ok(at);
        }
        sleep(Duration::from_millis(50)).await;
    }
    Err(Stop::failed("the hub heard no heartbeat of the agent"))
}

/// Memory of a process, in KiB.
struct Memory {
    resident: u64,
    share: u64,
    peak: u64,
    threads: u64,
}

impl Memory {
    fn of(id: u32) -> Result<Self> {
        let status = read(&format!("/proc/{id}/status"))?;
        let rollup = read(&format!("/proc/{id}/smaps_rollup"))?;
        Ok(Self {
            resident: number(&status, "VmRSS:")?,
            peak: number(&status, "VmHWM:")?,
            share: number(&rollup, "Pss:")?,
            threads: number(&status, "Threads:")?,
        })
    }
}

/// What the kernel has counted for a process so far.
#[derive(Clone, Copy)]
struct Counters {
    woken: u64,
    preempted: u64,
    /// Nanoseconds on a processor.
    cpu: u64,
}

impl Counters {
    fn of(id: u32) -> Result<Self> {
        let mut counters = Self {
            woken: 0,
            preempted: 0,
            cpu: 0,
        };
        let tasks = format!("/proc/{id}/task");
        for task in fs::read_dir(&tasks).context(|| format!("could not read {tasks}"))? {
            let task = task.context(|| format!("could not read {tasks}"))?.path();
            let task = task.display();
            let status = read(&format!("{task}/status"))?;
            counters.woken += number(&status, "voluntary_ctxt_switches:")?;
            counters.preempted += number(&status, "nonvoluntary_ctxt_switches:")?;
            let schedule = read(&format!("{task}/schedstat"))?;
            counters.cpu += number(&schedule, "")?;
        }
        Ok(counters)
    }

    /// Threads that have ended take their counts with them, so a count may be less than before.
    fn until(&self, later: &Self) -> Self {
        Self {
            woken: later.woken.saturating_sub(self.woken),
            preempted: later.preempted.saturating_sub(self.preempted),
            cpu: later.cpu.saturating_sub(self.cpu),
        }
    }
}

impl std::fmt::Display for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let milliseconds = self.per_minute(self.used.cpu / 1000) / 1000.0;
        let Memory {
            resident,
            share,
            peak,
            threads,
        } = &self.memory;
        writeln!(f, "{}", self.agent.display())?;
        writeln!(f, "  size       {} KiB", self.size / 1024)?;
        writeln!(
            f,
            "  resident   {resident} KiB, its share {share} KiB, peak {peak} KiB"
        )?;
        writeln!(f, "  threads    {threads}")?;
        writeln!(
            f,
            "  wake-ups   {:.1} a minute, and {:.1} times preempted",
            self.wake_ups(),
            self.per_minute(self.used.preempted)
        )?;
        writeln!(
            f,
            "  processor  {milliseconds:.1} ms a minute, {:.4} % of one",
            milliseconds / 600.0
        )
    }
}

/// The first number behind `name` at the begin of a line.
fn number(text: &str, name: &str) -> Result<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| Stop::failed(format!("no number behind {name:?} in:\n{text}")))
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).context(|| format!("could not read {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_behind_their_names() {
        let status = "VmHWM:\t    4100 kB\nVmRSS:\t    3900 kB\nnonvoluntary_ctxt_switches:\t2\nvoluntary_ctxt_switches:\t7\n";
        assert_eq!(number(status, "VmRSS:").unwrap(), 3900);
        assert_eq!(number(status, "voluntary_ctxt_switches:").unwrap(), 7);
        assert_eq!(number("123 4 5\n", "").unwrap(), 123);
        assert!(number(status, "Pss:").is_err());
    }

    #[test]
    fn the_report_counts_by_the_minute() {
        let watched = Watched {
            agent: PathBuf::from("agent"),
            size: 2048,
            memory: Memory {
                resident: 3900,
                share: 3700,
                peak: 4100,
                threads: 1,
            },
            used: Counters {
                woken: 16,
                preempted: 2,
                cpu: 12_000_000,
            },
            time: Duration::from_mins(2),
        };
        let text = watched.to_string();
        for part in [
            "8.0 a minute",
            "1.0 times",
            "6.0 ms",
            "0.0100 %",
            "3900 KiB",
            "2 KiB",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
