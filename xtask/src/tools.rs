//! What a step needs to have around it: the workspace's own programs, Python tools in a venv,
//! packages of the system. All that is got is pinned, kept under target/ and used again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tokio::process::Command;

use crate::error::{Context, Result, Stop};
use crate::no_services::NoServices;
use crate::process;

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
}

/// Where tools and downloads are kept between runs.
pub(crate) fn target() -> PathBuf {
    root().join("target")
}

/// Cargo, at the root of the workspace, as if it were started from a shell there.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(arguments).current_dir(root());
    // `cargo run` tells us about our own package. Build scripts that look at these variables
    // (ring's does) would run anew at each change between `cargo xtask` and plain `cargo`.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(name.as_ref());
        }
    }
    cargo
}

/// The programs that a demo or a suite runs.
pub(crate) struct Programs {
    pub(crate) agent: PathBuf,
    pub(crate) hub: PathBuf,
}

/// Builds the agent and the mock hub as a developer would, and says where they are.
pub(crate) async fn build() -> Result<Programs> {
    both(&[]).await
}

/// The same, as they are released.
pub(crate) async fn build_release() -> Result<Programs> {
    both(&["--release"]).await
}

/// The released hub alone.
pub(crate) async fn build_hub() -> Result<PathBuf> {
    let [hub] = build_as(&["--release"], ["mock-hub"]).await?;
    Ok(hub)
}

async fn both(options: &[&str]) -> Result<Programs> {
    let [agent, hub] = build_as(options, ["monsys-agent", "mock-hub"]).await?;
    Ok(Programs { agent, hub })
}

/// Builds packages that each have a program of the same name.
async fn build_as<const N: usize>(
    options: &[&str],
    packages: [&'static str; N],
) -> Result<[PathBuf; N]> {
    let messages = "--message-format=json-render-diagnostics";
    let mut command = cargo(&["build", "--quiet", messages]);
    for package in packages {
        command.args(["--package", package]);
    }
    command.args(options);
    let built = process::capture(&mut command).await?;
    eprint!("{}", built.stderr);
    process::succeeded(&process::name(&command), built.status)?;
    let mut programs = Vec::new();
    for name in packages {
        let program = built
            .stdout
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|message| message["target"]["name"] == name)
            .find_map(|message| message["executable"].as_str().map(PathBuf::from))
            .ok_or_else(|| Stop::failed(format!("cargo build made no program named {name}")))?;
        programs.push(program);
    }
    programs
        .try_into()
        .map_err(|_| Stop::failed("cargo build made another number of programs"))
}

/// A Python environment with what `requirements` (a file, relative to the root) pins.
/// Gives its bin directory.
pub(crate) async fn venv(name: &str, requirements: &str) -> Result<PathBuf> {
    let dir = target().join(format!("venv-{name}"));
    let wanted = fs::read_to_string(root().join(requirements))
        .context(|| format!("could not read {requirements}"))?;
    once(&dir, &wanted, async || {
        println!("installing {requirements} into {}", shown(&dir));
        python_venv(&dir).await?;
        let mut pip = Command::new(dir.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check"])
            .args(["--requirement", requirements])
            .current_dir(root());
        install(&mut pip).await
    })
    .await?;
    Ok(dir.join("bin"))
}

/// Has `fill` fill the directory `dir`, unless a run before has done so for the same `wanted`.
pub(crate) async fn once(
    dir: &Path,
    wanted: &str,
    fill: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    let stamp = dir.join("wanted");
    if fs::read_to_string(&stamp).is_ok_and(|done| done == wanted) {
        return Ok(());
    }
    if dir.exists() {
        fs::remove_dir_all(dir).context(|| format!("could not remove {}", dir.display()))?;
    }
    fill().await?;
    fs::write(&stamp, wanted).context(|| format!("could not write {}", stamp.display()))
}

/// Installs Debian packages; only root can, and only where there is apt.
pub(crate) async fn apt(packages: &[&str]) -> Result<()> {
    /// The lists of packages are brought up to date once.
    static UPDATED: AtomicBool = AtomicBool::new(false);
    let wanted = packages.join(", ");
    if !nix::unistd::geteuid().is_root() || !Path::new("/usr/bin/apt-get").exists() {
        return Err(Stop::missing(format!(
            "needs {wanted}: install it by hand and run this again"
        )));
    }
    println!("installing {wanted}");
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null());
        apt
    };
    if !UPDATED.swap(true, Ordering::Relaxed) {
        install(apt().args(["update", "-qq"])).await?;
    }
    install(
        apt()
            .args(["install", "-qq", "--no-install-recommends"])
            .args(packages),
    )
    .await
}

/// Installs the Debian packages of those programs (path and package) that are not there.
pub(crate) async fn programs(wanted: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<_> = wanted
        .iter()
        .filter(|(program, _)| !Path::new(program).exists())
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let _no_services = NoServices::new()?;
    apt(&missing).await
}

/// A path for people: relative to the root where it is below it.
pub(crate) fn shown(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}

/// Debian keeps `venv` out of `python3`: where it is missing, it is installed.
async fn python_venv(dir: &Path) -> Result<()> {
    let make = || {
        let mut python = Command::new("python3");
        python.args(["-m", "venv"]).arg(dir);
        python
    };
    if process::capture(&mut make())
        .await
        .is_ok_and(|made| made.status.success())
    {
        return Ok(());
    }
    apt(&["python3", "python3-venv"]).await?;
    install(&mut make()).await
}

/// Runs an installer. When it fails, the step cannot run, which is not the step's own failure.
pub(crate) async fn install(command: &mut Command) -> Result<()> {
    process::run(command)
        .await
        .map_err(|stop| Stop::missing(stop.to_string()))
}
