//! `cargo xtask bench`: one table of what an enrolment costs beside what one would do without the
//! agent, all in one run on this machine against one hub; and what size, service and hub come to.

mod text;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::enrolment::{self, Contender, Scene, Taken, Wire};
use super::storm::Figures;
use super::{idle, load, storm};
use crate::error::{Context, Result, Stop};
use crate::tools;

pub(super) const ABOUT: &str = "\
Every row is a cold process that does the whole of it; the rows take turns, so that what else the
machine does falls on all of them. docs/performance.md tells how to read the table. What a row needs
(curl, jq, openssl, strace, valgrind, root) is installed where apt can; a row that cannot run says so.

Examples:
  cargo xtask bench
  cargo xtask bench --runs 101 --hosts 10000 --json target/bench.json
  cargo xtask bench storm --hosts 10000
  cargo xtask bench idle --seconds 600";

#[derive(Args)]
pub(super) struct Options {
    /// How often each row is run
    #[arg(long, value_name = "N", default_value = "31",
          value_parser = clap::value_parser!(u32).range(3..=10_000))]
    runs: u32,

    /// Hosts of the storm; 0 leaves it out
    #[arg(long, value_name = "N", default_value = "1000",
          value_parser = clap::value_parser!(u32).range(0..=100_000))]
    hosts: u32,

    /// How long the idle service is watched; 0 leaves it out
    #[arg(long, value_name = "N", default_value = "60",
          value_parser = clap::value_parser!(u32).range(0..=86_400))]
    seconds: u32,

    /// Enrolments that the hub is loaded with; 0 leaves it out
    #[arg(long, value_name = "N", default_value = "6000",
          value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    load: u32,

    /// Measure this program and not the static binary that is built here
    #[arg(long, value_name = "PATH")]
    agent: Option<PathBuf>,

    /// Write the figures as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// All that was measured; what could not be says why.
struct Table {
    machine: String,
    runs: u32,
    size: u64,
    rows: Vec<Row>,
    idle: Option<(u64, f64)>,
    load: Option<load::Load>,
    storm: Option<Figures>,
}

/// A contender's figures.
struct Row {
    contender: Contender,
    taken: Result<Vec<Taken>>,
    syscalls: Result<u64>,
    instructions: Result<u64>,
    wire: Result<Wire>,
    packets: Result<(u64, u64)>,
}

pub(super) async fn run(options: &Options) -> Result<()> {
    eprintln!("building the static agent and the released hub (the first time takes minutes)");
    let hub = tools::build_hub().await?;
    let programs = enrolment::programs(options.agent.as_deref()).await?;
    let agent = programs.agent.clone();
    let scene = Scene::new(programs.clone(), &hub).await?;
    let apart = Scene::apart(programs, &hub).await;
    let rows = rows(options, &scene, apart.as_ref()).await;
    if let Ok(apart) = apart {
        apart.end().await?;
    }
    let load = match options.load {
        0 => None,
        enrolments => {
            eprintln!("{enrolments} enrolments over connections of their own");
            Some(load::run(&scene, enrolments as usize).await?)
        }
    };
    scene.end().await?;
    let idle = match options.seconds {
        0 => None,
        seconds => {
            let watched = idle::watch(&agent, &hub, seconds.max(35)).await?;
            Some((watched.resident(), watched.wake_ups()))
        }
    };
    let storm = match options.hosts {
        0 => None,
        hosts => {
            let (report, verdict) = storm::storm(&storm::of(hosts), &agent, &hub).await?;
            verdict.result()?;
            Some(report.figures())
        }
    };
    let table = Table {
        machine: machine(),
        runs: options.runs,
        size: fs::metadata(&agent)
            .context(|| agent.display().to_string())?
            .len(),
        rows,
        idle,
        load,
        storm,
    };
    println!("{table}");
    if let Some(file) = &options.json {
        let text = format!("{:#}\n", table.json());
        fs::write(file, text).context(|| format!("could not write {}", file.display()))?;
    }
    Ok(())
}

async fn rows(
    options: &Options,
    scene: &Scene,
    apart: std::result::Result<&Scene, &Stop>,
) -> Vec<Row> {
    let mut rows = Vec::new();
    for contender in Contender::ALL {
        let able = tools::programs(contender.needs()).await;
        eprintln!("{}: system calls, instructions, wire", contender.name());
        let missing = |cause: &Stop| Stop::missing(cause.to_string());
        let cause = able.as_ref().err().map(Stop::to_string);
        let stop = || cause.clone().map(Stop::missing);
        rows.push(Row {
            contender,
            syscalls: match stop() {
                Some(stop) => Err(stop),
                None => enrolment::syscalls(scene, contender)
                    .await
                    .map(|calls| calls.iter().map(|(_, count)| count).sum()),
            },
            instructions: match stop() {
                Some(stop) => Err(stop),
                None => enrolment::instructions(scene, contender).await,
            },
            wire: match stop() {
                Some(stop) => Err(stop),
                None => enrolment::wire(scene, contender).await,
            },
            packets: match (stop(), apart) {
                (Some(stop), _) => Err(stop),
                (None, Err(cause)) => Err(missing(cause)),
                (None, Ok(apart)) => enrolment::packets(apart, contender).await,
            },
            taken: able.map(|()| Vec::new()),
        });
    }
    eprintln!("{} runs of each, in turn", options.runs);
    // The first of each warms the caches that a booting host has warm, too, and is not counted.
    for run in 0..=options.runs {
        for row in &mut rows {
            let Ok(taken) = &mut row.taken else { continue };
            match enrolment::taken(scene, row.contender).await {
                Ok(_) if run == 0 => {}
                Ok(one) => taken.push(one),
                Err(stop) => row.taken = Err(stop),
            }
        }
    }
    rows
}

/// Processor, kernel and file system.
fn machine() -> String {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = text("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, name)| name);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let load = text("/proc/loadavg");
    format!(
        "{processors} × {model}, Linux {}, load {} at the end",
        text("/proc/sys/kernel/osrelease").trim(),
        load.split_whitespace().next().unwrap_or("unknown")
    )
}

/// Median, and half the width of the middle half.
struct Spread {
    median: f64,
    half: f64,
}

impl Spread {
    fn of(all: &[Taken], number: impl Fn(&Taken) -> f64) -> Option<Self> {
        let mut all: Vec<f64> = all.iter().map(number).collect();
        all.sort_by(f64::total_cmp);
        let at = |quarter: usize| all.get((all.len().checked_sub(1)?) * quarter / 4).copied();
        Some(Self {
            median: at(2)?,
            half: (at(3)? - at(1)?) / 2.0,
        })
    }
}

impl Row {
    fn wall(&self) -> Option<Spread> {
        Spread::of(self.taken.as_ref().ok()?, |one| milliseconds(one.wall))
    }

    fn cpu(&self) -> Option<Spread> {
        Spread::of(self.taken.as_ref().ok()?, |one| milliseconds(one.cpu))
    }

    /// In MB.
    fn memory(&self) -> Option<Spread> {
        let megabytes = |one: &Taken| f64::from(u32::try_from(one.memory).unwrap_or(u32::MAX));
        Spread::of(self.taken.as_ref().ok()?, |one| {
            megabytes(one) * 1024.0 / 1e6
        })
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

impl Table {
    fn json(&self) -> Value {
        let spread = |spread: Option<Spread>| match spread {
            Some(Spread { median, half }) => json!({"median": median, "half_of_middle_half": half}),
            None => Value::Null,
        };
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let wire = row.wire.as_ref().ok();
                json!({
                    "name": row.contender.name(),
                    "wall_ms": spread(row.wall()),
                    "cpu_ms": spread(row.cpu()),
                    "memory_mb": spread(row.memory()),
                    "syscalls": row.syscalls.as_ref().ok(),
                    "instructions": row.instructions.as_ref().ok(),
                    "connections": wire.map(|wire| wire.connections),
                    "round_trips": wire.map(|wire| wire.round_trips),
                    "tls_bytes_sent": wire.map(|wire| wire.sent),
                    "tls_bytes_received": wire.map(|wire| wire.received),
                    "packets": row.packets.as_ref().ok().map(|(packets, _)| packets),
                    "bytes_on_the_wire": row.packets.as_ref().ok().map(|(_, bytes)| bytes),
                    "missing": row.missing(),
                })
            })
            .collect();
        json!({
            "machine": self.machine,
            "runs": self.runs,
            "binary_bytes": self.size,
            "enrolment": rows,
            "idle": self.idle.map(|(resident, wake_ups)| json!({
                "resident_kib": resident,
                "wake_ups_per_minute": wake_ups,
            })),
            "hub": self.load.as_ref().map(|load| json!({
                "enrolments": load.enrolments,
                "enrolments_per_second": load.rate(),
                "hub_cpu_percent": load.used.percent(load.used.hub),
                "load_generator_cpu_percent": load.used.percent(load.used.driver),
            })),
            "storm": self.storm.as_ref().map(|storm| json!({
                "hosts": storm.hosts,
                "hosts_per_second": storm.rate,
                "host_ms": {
                    "p50": milliseconds(storm.times[0]),
                    "p99": milliseconds(storm.times[1]),
                    "max": milliseconds(storm.times[2]),
                },
                "agent_cpu_ms": storm.agent_ms,
                "hub_cpu_ms": storm.hub_ms,
                "bound_by": storm.bound,
            })),
        })
    }
}
