//! The environment of the test targets: what is built, unpacked or installed before they run, and the
//! variables that name it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;
use tokio::process::Command;
use xtask::error::{Context, Result, Stop};
use xtask::{process, tools};

use super::{Count, Pending, cores, nextest, trees};
use crate::dist;

/// The oldest Terraform that has all that the module's tests use.
const TERRAFORM: (u64, u64) = (1, 8);
/// Random documents of a run of `scrub`, and of a long one.
const DOCUMENTS: [&str; 2] = ["2000", "1000000"];
/// The version of the packages that are upgraded.
const OLDER: &str = "0.0.9";

/// Variables for the tests, and the checks that were part of the preparation.
#[derive(Default)]
pub(super) struct Prepared {
    pub(super) count: Count,
    pub(super) variables: Vec<(&'static str, OsString)>,
}

impl Prepared {
    fn of<const N: usize>(variables: [(&'static str, PathBuf); N]) -> Self {
        Self {
            count: Count::default(),
            variables: variables.map(|(name, path)| (name, path.into())).into(),
        }
    }
}

pub(super) fn nothing(_: bool) -> Pending<Prepared> {
    Box::pin(async { Ok(Prepared::default()) })
}

/// Builds the static binary that ships, for the tests to run in place of cargo's build. On a machine that cannot
/// build it, they run cargo's; in CI, that is a failure.
pub(super) async fn shipped() -> Result<Prepared> {
    match dist::static_agent().await {
        Err(Stop::Missing(cause)) if !super::is_ci() => {
            println!("\nNOT the binary that ships, but cargo's build: {cause}");
            Ok(Prepared::default())
        }
        agent => Ok(Prepared::of([("MONSYS_TEST_AGENT", agent?)])),
    }
}

/// A long run kills a return to a hub at each call, and refuses its calls with each error.
pub(super) fn crash(is_long: bool) -> Pending<Prepared> {
    let mut prepared = Prepared::default();
    if is_long {
        prepared.variables.push(("CRASH_LONG", "1".into()));
    }
    Box::pin(async { Ok(prepared) })
}

/// A long run has 1,000 hosts.
pub(super) fn fleet(is_long: bool) -> Pending<Prepared> {
    Box::pin(async move {
        let [hub] = tools::build(["mock-hub"], &[]).await?;
        let mut prepared = shipped().await?;
        prepared.variables.push(("MONSYS_TEST_HUB", hub.into()));
        if is_long {
            prepared
                .variables
                .push(("MONSYS_TEST_FLEET", "long".into()));
        }
        Ok(prepared)
    })
}

/// Runs the examples in the documentation, which nextest does not run, and builds the binary that ships.
pub(super) async fn rust() -> Result<Prepared> {
    let mut prepared = shipped().await?;
    let mut cargo = tools::cargo(&["test", "--locked", "--workspace", "--doc"]);
    let outcome = process::run(&mut cargo).await;
    prepared
        .count
        .check("examples in the documentation", outcome);
    Ok(prepared)
}

/// Makes a signed release for both architectures, twice: the second time nothing may change.
pub(super) async fn release() -> Result<Prepared> {
    let folder = signed_release().await?;
    let python = tools::venv("sbom", "xtask/requirements/sbom.txt").await?;
    let mut prepared = Prepared::of([
        ("MONSYS_TEST_DIST", folder.clone()),
        ("MONSYS_TEST_SBOM_PYTHON", python.join("python")),
    ]);
    let again = made_again(&folder).await;
    prepared.count.check("a second run makes nothing", again);
    Ok(prepared)
}

pub(super) async fn packages() -> Result<Prepared> {
    Ok(Prepared::of([
        ("MONSYS_TEST_DIST", signed_release().await?),
        ("MONSYS_TEST_OLDER", older().await?),
    ]))
}

/// A long run boots each release with every way to install, and each template with each cloud-init.
pub(super) fn hosts(is_long: bool) -> Pending<Prepared> {
    Box::pin(async move {
        let [hub] = tools::build(["mock-hub"], &[]).await?;
        let trees = trees::all().await?;
        let cores = cores::all(is_long, &trees).await?;
        let mut prepared = Prepared::of([
            ("MONSYS_TEST_HUB", hub),
            ("MONSYS_TEST_TREES", trees),
            ("MONSYS_TEST_DIST", signed_release().await?),
            ("MONSYS_TEST_OLDER", older().await?),
            ("MONSYS_TEST_ANSIBLE", ansible_bin().await?),
        ]);
        prepared.variables.push(("MONSYS_TEST_CORES", cores));
        if is_long {
            let long = ("MONSYS_TEST_MATRIX", "long".into());
            prepared.variables.push(long);
        }
        Ok(prepared)
    })
}

pub(super) async fn ansible() -> Result<Prepared> {
    Ok(Prepared::of([(
        "MONSYS_TEST_ANSIBLE",
        ansible_bin().await?,
    )]))
}

pub(super) async fn budgets() -> Result<Prepared> {
    let mut prepared = Prepared::of([("MONSYS_TEST_STATIC", dist::static_agent().await?)]);
    let crates = dist::linked_crates().await?.to_string();
    prepared
        .variables
        .push(("MONSYS_TEST_CRATES", crates.into()));
    Ok(prepared)
}

/// Boots cloud-init for the files that the scrubber is to find; they are made once.
pub(super) async fn scrub(is_long: bool) -> Result<Prepared> {
    const RECIPE: &str = "tests/cloud_init/scrub_boots.rs";
    let cloud_init = unpacked_cloud_init().await?;
    let boots = tools::target().join("scrub-boots");
    let recipe =
        fs::read_to_string(tools::root().join(RECIPE)).context(|| format!("no {RECIPE}"))?;
    tools::once(&boots, &recipe, async || {
        fs::create_dir_all(&boots).context(|| format!("could not make {}", boots.display()))?;
        let variables = [
            ("MONSYS_TEST_CLOUD_INIT", cloud_init.clone().into()),
            ("MONSYS_TEST_BOOTS", boots.clone().into()),
        ];
        let selection = "--test cloud_init -E test(scrub_boots::)";
        match nextest::run(selection, &variables).await?.failed {
            0 => Ok(()),
            _ => Err(Stop::failed("the boots for the scrubber failed")),
        }
    })
    .await?;
    let mut prepared = Prepared::of([
        ("SCRUB_PYTHON", cloud_init.join("python")),
        ("SCRUB_BOOTS", boots),
    ]);
    let documents = DOCUMENTS[usize::from(is_long)];
    prepared.variables.push(("SCRUB_CASES", documents.into()));
    Ok(prepared)
}

pub(super) async fn cloud_init() -> Result<Prepared> {
    terraform().await?;
    let aws = tools::venv("aws", "xtask/requirements/aws.txt").await?;
    Ok(Prepared::of([
        ("MONSYS_TEST_CLOUD_INIT", unpacked_cloud_init().await?),
        ("MONSYS_TEST_AWS", aws),
    ]))
}

/// Checks that Terraform is there: no package registry has it.
pub(super) async fn terraform() -> Result<Prepared> {
    let (major, minor) = TERRAFORM;
    let needs = format!(
        "needs terraform, {major}.{minor} or newer: https://developer.hashicorp.com/terraform/install"
    );
    let mut terraform = Command::new("terraform");
    terraform
        .args(["version", "-json"])
        .env("CHECKPOINT_DISABLE", "1");
    let Ok(output) = process::stdout_of(&mut terraform).await else {
        return Err(Stop::missing(needs));
    };
    let version: Value = serde_json::from_str(&output).unwrap_or_default();
    let version = version["terraform_version"].as_str().unwrap_or_default();
    let mut numbers = version.split('.').map(|n| n.parse::<u64>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < TERRAFORM {
        return Err(Stop::missing(format!("{needs}; this one is {version:?}")));
    }
    Ok(Prepared::default())
}

/// Makes the release that all suites share, signed by a test key.
async fn signed_release() -> Result<PathBuf> {
    dist::run(&signed()?).await
}

fn signed() -> Result<dist::Options> {
    let key = tools::target().join("suites-minisign.key");
    if !key.exists() {
        let _lock = tools::lock("suites-minisign")?;
        dist::write_test_key(&key)?;
    }
    Ok(dist::Options {
        key: Some(key),
        ..dist::Options::default()
    })
}

async fn older() -> Result<PathBuf> {
    dist::run(&dist::Options {
        package_version: Some(OLDER.to_owned()),
        ..dist::Options::default()
    })
    .await
}

/// Fails unless a second run leaves every file of the release as it is.
async fn made_again(folder: &Path) -> Result<()> {
    let times = || -> Result<BTreeMap<PathBuf, SystemTime>> {
        let what = || format!("could not read {}", folder.display());
        let mut times = BTreeMap::new();
        for entry in fs::read_dir(folder).context(what)? {
            let entry = entry.context(what)?;
            let modified = entry.metadata().and_then(|m| m.modified()).context(what)?;
            times.insert(entry.path(), modified);
        }
        Ok(times)
    };
    let before = times()?;
    dist::run(&signed()?).await?;
    if times()? == before {
        return Ok(());
    }
    Err(Stop::failed("a second run has changed files"))
}

async fn ansible_bin() -> Result<PathBuf> {
    tools::venv("ansible", "xtask/requirements/ansible.txt").await
}

/// Unpacks Debian's cloud-init under target/, without installing it: nothing of it may run at this
/// machine's boot. The folder has two scripts, `cloud-init` and `python`, which can import it.
async fn unpacked_cloud_init() -> Result<PathBuf> {
    let venv = tools::venv("cloud-init", "xtask/requirements/cloud-init.txt").await?;
    let folder = tools::target().join("cloud-init");
    let packages = folder.join("root/usr/lib/python3/dist-packages");
    let interpreter = venv.join("python");
    let start = format!(
        "#!/bin/sh\nPYTHONPATH={} exec {}",
        packages.display(),
        interpreter.display()
    );
    tools::once(&folder, &start, async || {
        if !nix::unistd::geteuid().is_root() || !Path::new("/usr/bin/apt-get").exists() {
            return Err(Stop::missing("needs root, and Debian's apt for cloud-init"));
        }
        let what = || format!("could not fill {}", folder.display());
        fs::create_dir_all(&folder).context(what)?;
        println!("unpacking cloud-init into {}", tools::shown(&folder));
        let _lock = tools::lock("apt")?;
        let download =
            "apt-get update -qq && apt-get download -qq cloud-init && dpkg -x *.deb root";
        let mut shell = Command::new("sh");
        shell.args(["-c", download]).current_dir(&folder);
        tools::install(&mut shell).await?;
        for (name, arguments) in [
            ("cloud-init", "-m cloudinit.cmd.main \"$@\""),
            ("python", "\"$@\""),
        ] {
            let script = folder.join(name);
            fs::write(&script, format!("{start} {arguments}\n")).context(what)?;
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).context(what)?;
        }
        Ok(())
    })
    .await?;
    Ok(folder)
}
