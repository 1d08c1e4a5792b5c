//! The tools that a step needs: the workspace's own programs, Python tools in a venv, packages of the
//! system. All that is installed is pinned, kept under target/ and used again.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an installation takes long, and says so"
)]

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tokio::process::Command;

use crate::error::{Context, Result, Stop};
use crate::machine::{Installation, Project};
use crate::process;

/// The file that Debian's package scripts run before they start a service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// The root of the workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
}

/// The folder of tools and downloads, which are kept between runs.
pub fn target() -> PathBuf {
    root().join("target")
}

/// Returns cargo, at the root of the workspace, as if it were started from a shell there.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = beside_cargo(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(arguments);
    cargo
}

/// Returns a program that runs cargo, at the root of the workspace.
pub fn beside_cargo(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    // `cargo run` sets these for xtask. Build scripts that look at them (ring's does) would run again
    // at each change between `cargo xtask` and plain `cargo`.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name.as_ref());
        }
    }
    command
}

/// Builds programs of the workspace, and returns their paths. All of them are built with the features
/// of the whole workspace, so that no dependency is built twice.
pub async fn build<const N: usize>(
    names: [&'static str; N],
    options: &[&str],
) -> Result<[PathBuf; N]> {
    let messages = "--message-format=json-render-diagnostics";
    let mut command = cargo(&["build", "--quiet", "--locked", "--workspace", messages]);
    for name in names {
        command.args(["--bin", name]);
    }
    command.args(options);
    let built = process::capture(&mut command).await?;
    eprint!("{}", built.stderr);
    process::succeeded(&process::name(&command), built.status)?;
    let messages: Vec<Value> = built
        .stdout
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let program = |name: &str| {
        messages
            .iter()
            .filter(|message| message["target"]["name"] == name)
            .find_map(|message| message["executable"].as_str().map(PathBuf::from))
            .ok_or_else(|| Stop::failed(format!("cargo build made no program named {name}")))
    };
    let programs = names.iter().map(|name| program(name));
    let programs = programs.collect::<Result<Vec<_>>>()?;
    programs
        .try_into()
        .map_err(|_| Stop::failed("cargo build made another number of programs"))
}

/// Installs the packages that `requirements` (a file, relative to the root) pins into a Python
/// environment, and returns its `bin` folder.
pub async fn venv(name: &str, requirements: &str) -> Result<PathBuf> {
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

/// Runs `fill` to fill the folder `dir`, unless an earlier run has done so for the same `wanted`.
pub async fn once(dir: &Path, wanted: &str, fill: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let _lock = lock(&name)?;
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

/// Waits until no other suite holds this lock, which is released when the file is dropped.
pub fn lock(name: &str) -> Result<File> {
    let path = target().join(format!(".{name}.lock"));
    let what = || format!("could not lock {}", path.display());
    fs::create_dir_all(target()).context(what)?;
    let file = File::create(&path).context(what)?;
    file.lock().context(what)?;
    Ok(file)
}

/// Installs the Debian packages of those programs (path and package) that are missing.
pub async fn programs(wanted: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<_> = wanted
        .iter()
        .filter(|(program, _)| !Path::new(program).exists())
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    apt(&missing).await
}

/// Returns the folders of the project.
pub fn project() -> Project {
    Project {
        root: root().into(),
        target: target(),
    }
}

/// Installs Debian packages, which takes root and apt. No service is started: each test starts its own.
pub async fn apt(packages: &[&str]) -> Result<()> {
    /// The lists of packages are brought up to date once.
    static UPDATED: AtomicBool = AtomicBool::new(false);
    let wanted = packages.join(" ");
    if !nix::unistd::geteuid().is_root() || !Path::new("/usr/bin/apt-get").exists() {
        return Err(Stop::missing(format!(
            "needs {wanted}: install it by hand and run this again"
        )));
    }
    println!("installing {wanted}");
    let _lock = lock("apt")?;
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null());
        apt
    };
    if !UPDATED.swap(true, Ordering::Relaxed) {
        install(apt().args(["update", "-qq"])).await?;
    }
    let installation = Installation::start(project());
    let policy = NoServices::new();
    let mut get = apt();
    get.args(["install", "-qq", "--no-install-recommends"])
        .args(packages);
    let outcome = install(&mut get).await;
    drop(policy);
    installation.end()?;
    outcome
}

/// While it lives, no package that is installed starts a service.
struct NoServices {
    /// Whoever has the file already decides what may start.
    is_ours: bool,
}

impl NoServices {
    fn new() -> Self {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(POLICY);
        Self {
            is_ours: file.is_ok_and(|mut file| file.write_all(b"#!/bin/sh\nexit 101\n").is_ok()),
        }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = fs::remove_file(POLICY);
        }
    }
}

/// Returns a path for people: relative to the root where it is below it.
pub fn shown(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}

/// Makes an empty Python environment. Debian's `python3` has no `venv`: it is installed if missing.
async fn python_venv(dir: &Path) -> Result<()> {
    let make = || {
        let mut python = Command::new("python3");
        python.args(["-m", "venv"]).arg(dir);
        python
    };
    if process::succeeds(&mut make()).await {
        return Ok(());
    }
    apt(&["python3", "python3-venv"]).await?;
    install(&mut make()).await
}

/// Runs an installer. When it fails, the step cannot run, which is not the step's own failure.
pub async fn install(command: &mut Command) -> Result<()> {
    process::run(command)
        .await
        .map_err(|stop| Stop::missing(stop.to_string()))
}
