//! Debian packages of any architecture, downloaded and unpacked into a folder.
//!
//! With lists and a status of its own: the machine's apt is neither changed nor asked, and no root
//! is needed.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::process::Command;

use xtask::error::{Context, Result, Stop};
use xtask::{process, tools};

pub(crate) struct Apt {
    folder: PathBuf,
    /// A source of its own, in place of the machine's.
    source: Option<PathBuf>,
}

/// A package that is the same on every machine.
pub(crate) struct Pinned {
    /// `NAME:ARCH=VERSION`.
    pub(crate) package: String,
    pub(crate) sha256: &'static str,
}

impl Apt {
    /// Fetches the lists of the machine's own sources, for both architectures.
    pub(crate) async fn new(folder: PathBuf) -> Result<Self> {
        Self::with(folder, None).await
    }

    /// Fetches the lists of a release of Debian, for both architectures.
    pub(crate) async fn of(release: &str, folder: PathBuf) -> Result<Self> {
        let signed_by = "/usr/share/keyrings/debian-archive-keyring.gpg";
        let line =
            format!("deb [signed-by={signed_by}] http://deb.debian.org/debian {release} main\n");
        let source = folder.join("sources.list");
        let what = || format!("could not write {}", source.display());
        fs::create_dir_all(&folder).context(what)?;
        fs::write(&source, line).context(what)?;
        Self::with(folder, Some(source)).await
    }

    async fn with(folder: PathBuf, source: Option<PathBuf>) -> Result<Self> {
        if !Path::new("/usr/bin/apt-get").exists() {
            return Err(Stop::missing("there is no apt on this machine"));
        }
        for part in ["lists/partial", "cache/archives/partial"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).context(|| format!("could not make {}", part.display()))?;
        }
        let status = folder.join("status");
        fs::write(&status, "").context(|| format!("could not write {}", status.display()))?;
        let apt = Self { folder, source };
        tools::install(apt.command("apt-get").args(["update", "--quiet=2"])).await?;
        Ok(apt)
    }

    /// Downloads packages (`NAME` or `NAME:ARCH`) and unpacks them below `root`.
    pub(crate) async fn unpack(&self, packages: &[&str], root: &Path) -> Result<()> {
        let scratch = self.download(packages).await?;
        extract(scratch.path(), root).await
    }

    async fn download(&self, packages: &[&str]) -> Result<TempDir> {
        let scratch = tempfile::tempdir_in(&self.folder)
            .context(|| format!("no scratch folder in {}", self.folder.display()))?;
        let mut download = self.command("apt-get");
        download
            .args(["download", "--quiet=2"])
            .args(packages)
            .current_dir(scratch.path());
        tools::install(&mut download).await?;
        Ok(scratch)
    }

    /// Downloads a pinned package, checks its bytes, and unpacks it below `root`.
    pub(crate) async fn unpack_pinned(&self, pinned: &Pinned, root: &Path) -> Result<()> {
        let scratch = self.download(&[&pinned.package]).await?;
        for package in files(scratch.path())? {
            let found = super::folder::sha256(&super::folder::read(&package)?);
            if found != pinned.sha256 {
                return Err(Stop::failed(format!(
                    "{}: its SHA-256 is {found}, and not {}",
                    pinned.package, pinned.sha256
                )));
            }
        }
        extract(scratch.path(), root).await
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
        if let Some(source) = &self.source {
            command.arg(format!(
                "--option=Dir::Etc::sourcelist={}",
                source.display()
            ));
            command.arg("--option=Dir::Etc::sourceparts=/dev/null");
        }
        command.args([
            // A mirror that is a snapshot stands still. What it has is signed all the same.
            "--option=Acquire::Check-Valid-Until=false",
            "--option=APT::Architectures::=amd64",
            "--option=APT::Architectures::=arm64",
            "--option=APT::Sandbox::User=root",
            "--option=Acquire::Languages=none",
            "--option=Debug::NoLocking=1",
        ]);
        command
    }
}

/// Unpacks every package of `folder` below `root`.
async fn extract(folder: &Path, root: &Path) -> Result<()> {
    for package in files(folder)? {
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("--extract").arg(package).arg(root);
        tools::install(&mut unpack).await?;
    }
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let what = || format!("could not read {}", folder.display());
    let entries = fs::read_dir(folder).context(what)?;
    entries
        .map(|entry| Ok(entry.context(what)?.path()))
        .collect()
}
