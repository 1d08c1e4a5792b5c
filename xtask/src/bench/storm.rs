//! `cargo xtask bench storm`: many hosts enrol at once, in any dialect, while the hub loses replies
//! and hosts are killed; and then every agent, use and credential is counted.
//!
//! [`System`] is what differs between the dialects, with a file for each; all else is the same story.
//!
//! Each host is the released program with a root folder and so a key of its own; the hub is one
//! process with its database on disk. All is on loopback and in scratch folders that go with it.

mod fleet;
mod host;
mod hub_log;
mod lyftdata;
mod mimir;
mod monsys;
mod ravenxcope;
mod report;
mod system;
mod verdict;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use nix::sys::statvfs::statvfs;
use serde_json::json;
use tempfile::TempDir;

use super::grouped;
use crate::error::{Context, Result, Stop};
use crate::hub::{Hub, Operator};
use crate::tools;
use fleet::Fleet;
use host::Site;
use hub_log::HubLog;
use lyftdata::Lyftdata;
use mimir::Mimir;
use monsys::Monsys;
use ravenxcope::Ravenxcope;
pub(super) use report::{Figures, Report};
use system::System;
use verdict::Verdict;

pub(super) const ABOUT: &str = "\
The hub drops 5 % of its replies after it has committed; 1 % of the hosts, at least one, are killed
(SIGKILL) and started again. What they enrol with is the dialect's:
  monsys      one token with as many uses as there are hosts
  mimir       one secret with as many uses
  lyftdata    the shared secret, and a name for each host
  ravenxcope  an install token for each host
With the first two a host recovers a lost reply by itself. The protocols of the others cannot: the host
has to refuse and to say so, and the storm does what that tells the operator to do.

At the end there have to be as many agents and uses as hosts, each host with an agent of its own and
with a credential that the hub takes. Otherwise it exits with 1.

Examples:
  cargo xtask bench storm --hosts 100
  cargo xtask bench storm --hosts 100 --dialect ravenxcope
  cargo xtask bench storm --hosts 10000 --seed 7 --svg storm.svg";

/// Replies that are lost after the commit, in a hundred.
const DROPPED_PERCENT: usize = 5;
/// Hosts that are killed, in a hundred.
const KILLED_PERCENT: usize = 1;
/// More than a host's files take.
const BYTES_PER_HOST: u64 = 256 * 1024;
/// Memory as a file system: syncing 64 hosts' files to one disk is not what a fleet does.
const MEMORY: &str = "/dev/shm";

#[derive(Args)]
pub(crate) struct Options {
    /// The system that the hosts enrol into
    #[arg(long, value_name = "NAME", value_enum, default_value_t)]
    dialect: Dialect,

    /// How many hosts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    hosts: u32,

    /// How many enrol at the same time
    #[arg(long, value_name = "N", default_value = "64",
          value_parser = clap::value_parser!(u32).range(1..=1_024))]
    at_once: u32,

    /// Decides which replies are lost, and who is killed when
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u32,

    /// Write the histograms as a picture, too
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// Which build of agent and hub
    #[arg(long, value_name = "BUILD", value_enum, default_value_t)]
    programs: Build,
}

/// How the programs are built.
#[derive(Clone, Copy, Default, ValueEnum)]
enum Build {
    /// As they are released
    #[default]
    Release,
    /// As the tests build them, which is quicker
    Debug,
}

impl Options {
    fn hosts(&self) -> usize {
        self.hosts as usize
    }
}

pub(super) async fn run(options: &Options) -> Result<()> {
    eprintln!("building agent and hub (the first time takes minutes)");
    let programs = match options.programs {
        Build::Release => tools::build_release().await?,
        Build::Debug => tools::build().await?,
    };
    let (report, verdict) = storm(options, &programs.agent, &programs.hub).await?;
    println!("{report}\n{verdict}");
    if let Some(file) = &options.svg {
        std::fs::write(file, report.svg())
            .context(|| format!("could not write {}", file.display()))?;
        println!("\nThe histograms are in {}.", file.display());
    }
    verdict.result()
}

/// So many hosts at the pace of the defaults.
pub(super) fn of(hosts: u32) -> Options {
    Options {
        dialect: Dialect::default(),
        hosts,
        at_once: 64,
        seed: 1,
        svg: None,
        programs: Build::default(),
    }
}

/// So few hosts that it takes seconds, and the seed of a storm that loses three of their replies.
pub(crate) fn small(dialect: Dialect) -> Options {
    Options {
        dialect,
        seed: 7,
        ..of(40)
    }
}

/// One storm, and whether it lost or doubled anything.
pub(crate) async fn storm(
    options: &Options,
    agent: &Path,
    hub: &Path,
) -> Result<(Report, Verdict)> {
    match options.dialect {
        Dialect::Monsys => storm_of::<Monsys>(options, agent, hub).await,
        Dialect::Ravenxcope => storm_of::<Ravenxcope>(options, agent, hub).await,
        Dialect::Mimir => storm_of::<Mimir>(options, agent, hub).await,
        Dialect::Lyftdata => storm_of::<Lyftdata>(options, agent, hub).await,
    }
}

async fn storm_of<S: System>(
    options: &Options,
    agent: &Path,
    hub: &Path,
) -> Result<(Report, Verdict)> {
    // Dropped last, when what runs in them has ended.
    let (hub_dir, hosts_dir) = (scratch(&std::env::temp_dir())?, scratch(&room(options)?)?);
    eprintln!(
        "hosts in {}, the hub's database in {}",
        hosts_dir.path().display(),
        hub_dir.path().display()
    );
    let hub = Hub::start_on_disk(hub, hub_dir.path()).await?;
    let operator = hub.operator()?;
    let system = S::prepare(&operator, &hub.url, options.hosts).await?;
    lose_replies(&operator, S::ROUTE, options).await?;

    let site = Arc::new(Site {
        agent: agent.to_owned(),
        hosts: hosts_dir.path().to_owned(),
        ca_file: hub.ca_file.clone().unwrap_or_default(),
        dialect: options.dialect.name(),
        operator,
        system,
    });
    let fleet = Fleet::new(Arc::clone(&site), options);
    let hub_process = hub.id().ok_or_else(|| Stop::failed("the hub has ended"))?;
    let fleet = fleet.enrol(hub_process).await?;

    let verdict = verdict::ask(&site, &fleet, options.hosts()).await?;
    hub.stop().await?;
    let log = HubLog::read(&hub_dir.path().join("hub.log"), S::is_enrolment)?;
    Ok((Report::new(options, fleet, log), verdict))
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
                grouped(options.hosts()),
                wanted >> 20
            ))
        })
}

fn scratch(parent: &Path) -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix("monsys-storm-")
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

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
pub(crate) enum Dialect {
    #[default]
    Monsys,
    Ravenxcope,
    Mimir,
    Lyftdata,
}

impl Dialect {
    pub(crate) fn name(self) -> String {
        use clap::ValueEnum;
        let value = self.to_possible_value();
        value
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }
}
