//! Debian packages of any architecture, downloaded and unpacked into a folder.
//!
//! With lists and a status of its own: the machine's apt is neither changed nor asked, and no root
//! is needed.

use std::fs;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use xtask::error::{Context, Result, Stop};
use xtask::{process, tools};

pub(crate) struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Fetches the lists of the machine's own sources, for both architectures.
    pub(crate) async fn new(folder: PathBuf) -> Result<Self> {
        if !Path::new("/usr/bin/apt-get").exists() {
            return Err(Stop::missing("there is no apt on this machine"));
        }
        for part in ["lists/partial", "cache/archives/partial"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).context(|| format!("could not make {}", part.display()))?;
        }
        let status = folder.join("status");
        fs::write(&status, "").context(|| format!("could not write {}", status.display()))?;
        let apt = Self { folder };
        tools::install(apt.command("apt-get").args(["update", "--quiet=2"])).await?;
        Ok(apt)
    }

    /// Downloads packages (`NAME` or `NAME:ARCH`) and unpacks them below `root`.
    pub(crate) async fn unpack(&self, packages: &[&str], root: &Path) -> Result<()> {
        let scratch = tempfile::tempdir_in(&self.folder)
            .context(|| format!("no scratch folder in {}", self.folder.display()))?;
        let mut download = self.command("apt-get");
        download
            .args(["download", "--quiet=2"])
            .args(packages)
            .current_dir(scratch.path());
        tools::install(&mut download).await?;
        let what = || format!("could not read {}", scratch.path().display());
        for entry in fs::read_dir(scratch.path()).context(what)? {
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("--extract").arg(entry.context(what)?.path());
            tools::install(unpack.arg(root)).await?;
        }
        Ok(())
    }

    /// Names of all packages that begin with `prefix`, sorted.
    pub(crate) async fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let mut pkgnames = self.command("apt-cache");
        let names = process::capture(pkgnames.args(["pkgnames", prefix])).await?;
        let mut names: Vec<_> = names.stdout.lines().map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }

    /// Names of the packages that `package` depends on.
    pub(crate) async fn depends(&self, package: &str) -> Result<Vec<String>> {
        let mut depends = self.command("apt-cache");
        let depends = process::capture(depends.args(["depends", package])).await?;
        let names = depends.stdout.lines();
        Ok(names
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .map(str::to_owned)
            .collect())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (option, path) in [
            ("Dir::State", "."),
            ("Dir::State::lists", "lists"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", "cache"),
        ] {
            let path = self.folder.join(path);
            command.arg(format!("--option={option}={}", path.display()));
        }
        command.args([
            "--option=APT::Architectures::=amd64",
            "--option=APT::Architectures::=arm64",
            "--option=APT::Sandbox::User=root",
            "--option=Acquire::Languages=none",
            "--option=Debug::NoLocking=1",
        ]);
        command
    }
}
