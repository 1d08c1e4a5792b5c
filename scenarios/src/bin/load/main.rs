//! `cargo xtask load`: many hosts enrol at once, in any dialect, while the hub loses replies and hosts
//! are killed; then every agent, use and credential is counted.
//!
//! [`Dialect`] is what differs between the dialects, with a file for each; all else is the same
//! procedure. Each host is the built program with a root folder, and so a key, of its own; the hub is
//! one process with its database on disk. All is on loopback and in scratch folders that are removed.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the report goes to standard output, the progress to standard error"
)]

mod check;
mod dialect;
mod host;
mod hosts;
mod hub_log;
mod lyftdata;
mod mimir;
mod monsys;
mod percentile;
mod ravenxcope;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, ValueEnum};
use nix::sys::statvfs::statvfs;
use scenarios::hub::{Hub, Operator};
use serde_json::json;
use tempfile::TempDir;
use xtask::error::{Context, Result, Stop};
use xtask::tools;

use check::Check;
use dialect::Dialect;
use host::Site;
use hosts::Hosts;
use hub_log::HubLog;
use lyftdata::Lyftdata;
use mimir::Mimir;
use monsys::Monsys;
use ravenxcope::Ravenxcope;
use report::Report;

const ABOUT: &str = "\
The hub drops 5 % of its replies after it has committed; 1 % of the hosts, at least one, are killed
(SIGKILL) and started again. The secret depends on the dialect:
  monsys      one token with as many uses as there are hosts
  mimir       one secret with as many uses
  lyftdata    the shared secret, and a name for each host
  ravenxcope  an install token for each host
With monsys and mimir a host recovers a lost reply by itself. The protocols of the others cannot: the
host refuses with a hint, and this program follows the hint as an operator would.

At the end there have to be as many agents and uses as hosts, each host with an agent of its own and
with a credential that the hub accepts. Otherwise the exit code is 1.

Examples:
  cargo xtask load --hosts 100
  cargo xtask load --hosts 100 --dialect ravenxcope
  cargo xtask load --hosts 10000 --seed 7";

/// Replies that are lost after the commit, in per cent.
const DROPPED_PERCENT: usize = 5;
/// Hosts that are killed, in per cent.
const KILLED_PERCENT: usize = 1;
/// More than a host's files take.
const BYTES_PER_HOST: u64 = 256 * 1024;
/// A file system in memory: real hosts do not sync their files to one common disk.
const MEMORY: &str = "/dev/shm";

#[derive(Parser)]
#[command(name = "cargo xtask load", about = "Enrols many hosts at once while replies are lost and hosts are killed", after_help = ABOUT)]
struct Options {
    /// The dialect that the hosts enrol with
    #[arg(long, value_name = "NAME", value_enum, default_value_t)]
    dialect: Name,

    /// Number of hosts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    hosts: u32,

    /// Number of hosts that enrol at the same time
    #[arg(long, value_name = "N", default_value = "64",
          value_parser = clap::value_parser!(u32).range(1..=1_024))]
    at_once: u32,

    /// Decides which replies are lost, and which hosts are killed at which moment
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u32,

    /// Fail when fewer replies were lost
    #[arg(long, value_name = "N", default_value = "0")]
    lost_at_least: usize,

    /// Use the programs as the tests build them, which is quicker than a release build
    #[arg(long)]
    debug: bool,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Name {
    #[default]
    Monsys,
    Ravenxcope,
    Mimir,
    Lyftdata,
}

impl Name {
    /// The value of the agent's `--dialect`.
    fn text(self) -> &'static str {
        match self {
            Self::Monsys => "monsys",
            Self::Ravenxcope => "ravenxcope",
            Self::Mimir => "mimir",
            Self::Lyftdata => "lyftdata",
        }
    }
}

impl Options {
    fn hosts(&self) -> usize {
        self.hosts as usize
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    xtask::finish(run(&options))
}

async fn run(options: &Options) -> Result<()> {
    eprintln!("building agent and hub (the first time takes minutes)");
    let profile: &[&str] = if options.debug { &[] } else { &["--release"] };
    let [agent, hub] = tools::build(["monsys-agent", "mock-hub"], profile).await?;
    let (report, check) = match options.dialect {
        Name::Monsys => load::<Monsys>(options, &agent, &hub).await,
        Name::Ravenxcope => load::<Ravenxcope>(options, &agent, &hub).await,
        Name::Mimir => load::<Mimir>(options, &agent, &hub).await,
        Name::Lyftdata => load::<Lyftdata>(options, &agent, &hub).await,
    }?;
    println!("{report}\n{check}");
    if report.dropped < options.lost_at_least {
        return Err(Stop::failed(format!(
            "{} replies were lost, and at least {} have to be",
            report.dropped, options.lost_at_least
        )));
    }
    check.result()
}

async fn load<D: Dialect>(options: &Options, agent: &Path, hub: &Path) -> Result<(Report, Check)> {
    // Dropped last, when what runs in them has ended.
    let (hub_dir, hosts_dir) = (scratch(&std::env::temp_dir())?, scratch(&room(options)?)?);
    eprintln!(
        "hosts in {}, the hub's database in {}",
        hosts_dir.path().display(),
        hub_dir.path().display()
    );
    let hub = Hub::start_on_disk(hub, hub_dir.path()).await?;
    let operator = hub.operator()?;
    let dialect = D::prepare(&operator, &hub.url, options.hosts).await?;
    lose_replies(&operator, D::ROUTE, options).await?;

    let site = Arc::new(Site {
        agent: agent.to_owned(),
        hosts: hosts_dir.path().to_owned(),
        ca_file: hub.ca_file.clone().unwrap_or_default(),
        name: options.dialect.text(),
        operator,
        dialect,
    });
    let ended = Hosts::new(Arc::clone(&site), options).enrol().await?;
    let check = Check::of(&site, &ended, options.hosts()).await?;
    hub.stop().await?;
    let log = HubLog::read(&hub_dir.path().join("hub.log"), D::is_enrolment)?;
    Ok((Report::new(options, &ended, log), check))
}

/// Memory if there is room for all hosts, else the folder for temporary files.
fn room(options: &Options) -> Result<PathBuf> {
    let wanted = u64::from(options.hosts) * BYTES_PER_HOST;
    let has_room = |folder: &Path| {
        statvfs(folder).is_ok_and(|fs| {
            let free: u64 = fs.blocks_available();
            free.saturating_mul(fs.fragment_size()) >= wanted
        })
    };
    let folders = [PathBuf::from(MEMORY), std::env::temp_dir()];
    folders
        .into_iter()
        .find(|folder| has_room(folder))
        .ok_or_else(|| {
            Stop::failed(format!(
                "{} hosts need {} MiB in {MEMORY} or in TMPDIR",
                options.hosts,
                wanted >> 20
            ))
        })
}

fn scratch(parent: &Path) -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix("monsys-load-")
        .tempdir_in(parent)
        .context(|| format!("could not make a folder in {}", parent.display()))
}

async fn lose_replies(operator: &Operator, route: &str, options: &Options) -> Result<()> {
    let fault = json!({
        "route": route,
        "times": 1_000_000,
        "percent": DROPPED_PERCENT,
        "seed": options.seed,
        "reset": "after",
    });
    operator.post("faults", &fault).await?;
    Ok(())
}
