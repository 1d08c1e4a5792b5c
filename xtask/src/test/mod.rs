//! `cargo xtask test`: every check of the project, a file a suite.
//!
//! To add a suite, write its file beside the others, with `pub(crate) async fn run() ->
//! Result<Count>`, and give it its line in `SUITES`. A suite that cannot run here, because a tool
//! is not to be had, returns [`Stop::Missing`]: that is told loudly, and is a failure in CI.

mod ansible;
mod budgets;
mod clippy;
mod cloud_init;
mod crash;
mod demo;
mod deps;
mod dist;
mod doc;
mod fmt;
mod fuzz;
mod hosts;
mod installer;
mod networks;
mod openapi;
mod os_release;
mod packages;
mod report;
mod rust;
pub(crate) mod scrub;
mod shell;
mod storms;
mod terraform;

use std::pin::Pin;
use std::time::Instant;

use crate::error::{Result, Stop};
pub(crate) use report::Count;
use report::{Ran, Report};

/// In the order in which they run: the quick ones first, those that need the whole last.
const SUITES: &[Suite] = &[
    Suite::new("fmt", "the code is laid out by rustfmt", || {
        Box::pin(fmt::run())
    }),
    Suite::new("shell", "shellcheck and shfmt over every script", || {
        Box::pin(shell::run())
    }),
    Suite::new(
        "clippy",
        "no lint in any target",
        || Box::pin(clippy::run()),
    ),
    Suite::new("doc", "the crates' documentation, no dead link", || {
        Box::pin(doc::run())
    }),
    Suite::new("deps", "one TLS stack; what deny.toml allows", || {
        Box::pin(deps::run())
    }),
    Suite::new("rust", "unit, integration and doc tests", || {
        Box::pin(rust::run())
    }),
    Suite::new("fuzz", "each fuzz target, a bounded number of runs", || {
        Box::pin(fuzz::run())
    }),
    Suite::new("scrub", "the scrubber on random documents", || {
        Box::pin(scrub::run())
    }),
    Suite::new("crash", "killed at every system call", || {
        Box::pin(crash::run())
    }),
    Suite::new("storms", "40 hosts at once, in each dialect", || {
        Box::pin(storms::run())
    }),
    Suite::new(
        "installer",
        "install.sh and install on whole machines",
        || Box::pin(installer::run()),
    ),
    Suite::new(
        "networks",
        "real proxies, cuts and bad names between",
        || Box::pin(networks::run()),
    ),
    Suite::new("os-release", "its reader beside Python's two", || {
        Box::pin(os_release::run())
    }),
    Suite::new("terraform", "the module, without network", || {
        Box::pin(terraform::run())
    }),
    Suite::new("cloud-init", "user data, by cloud-init itself", || {
        Box::pin(cloud_init::run())
    }),
    Suite::new("openapi", "the mock hub keeps docs/openapi.yaml", || {
        Box::pin(openapi::run())
    }),
    Suite::new("dist", "a release: static, signed, runs on nothing", || {
        Box::pin(dist::run())
    }),
    Suite::new("budgets", "size, crates, calls and instructions", || {
        Box::pin(budgets::run())
    }),
    Suite::new("packages", "what is in the deb and the rpm", || {
        Box::pin(packages::run())
    }),
    Suite::new("ansible", "the collection: lint, syntax, variables", || {
        Box::pin(ansible::run())
    }),
    Suite::new("hosts", "booted hosts, every way in", || {
        Box::pin(hosts::run())
    }),
    Suite::new("demo", "cargo xtask demo", || Box::pin(demo::run())),
];

/// A named check of one kind.
struct Suite {
    name: &'static str,
    about: &'static str,
    run: fn() -> Running,
}

type Running = Pin<Box<dyn Future<Output = Result<Count>>>>;

impl Suite {
    const fn new(name: &'static str, about: &'static str, run: fn() -> Running) -> Self {
        Self { name, about, run }
    }
}

/// Prints what there is to run.
pub(crate) fn list() {
    for suite in SUITES {
        println!("{:<12} {}", suite.name, suite.about);
    }
}

/// Runs the suites that are named, or all; ends with a table and the plain line of counts.
pub(crate) async fn run(names: &[String]) -> Result<()> {
    let chosen = choose(names)?;
    let mut report = Report::new(std::env::var_os("CI").is_some_and(|ci| ci == "true"));
    for suite in chosen {
        println!("\n=== {}: {} ===", suite.name, suite.about);
        let start = Instant::now();
        let outcome = (suite.run)().await;
        if let Err(stop) = &outcome {
            println!("{}: {stop}", suite.name);
        }
        let ran = Ran {
            name: suite.name,
            outcome,
            time: start.elapsed(),
        };
        println!("--- {ran}");
        report.add(ran);
    }
    println!("\n{report}");
    report.verdict()
}

fn choose(names: &[String]) -> Result<Vec<&'static Suite>> {
    if let Some(unknown) = names
        .iter()
        .find(|name| SUITES.iter().all(|suite| suite.name != **name))
    {
        return Err(Stop::failed(format!(
            "there is no suite named {unknown:?}; `cargo xtask test --list` shows them"
        )));
    }
    let wanted = |suite: &&Suite| names.is_empty() || names.iter().any(|name| name == suite.name);
    Ok(SUITES.iter().filter(wanted).collect())
}
