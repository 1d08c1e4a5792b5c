//! `cargo xtask dist`: all files of a release, into `target/dist/`.
//!
//! For each architecture a static binary, its tarball and its packages; then the files about all of
//! them: the bill of materials, the checksums, their signature, and the installer that knows them.
//! The same sources make the same bytes. Nothing that is up to date is made again.

mod apt;
pub(crate) mod arch;
mod binary;
mod folder;
mod installer;
mod licences;
mod linked;
mod md5sums;
mod packages;
mod sbom;
mod signature;
mod stage;
mod sysroot;
mod tarball;

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;

use arch::Arch;
use folder::Folder;
pub(crate) use signature::write_test_key;
use xtask::error::{Result, Stop};
use xtask::{process, tools};

#[derive(Args, Clone, Default)]
pub(crate) struct Options {
    /// Architecture to build for; can be repeated [default: both]
    #[arg(long, value_enum, value_name = "ARCH")]
    pub(crate) arch: Vec<Arch>,
    /// minisign secret key that signs SHA256SUMS; its password, if any, is in `MINISIGN_PASSWORD`
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Only packages, which call themselves this version, into target/dist-VERSION: to try upgrades
    #[arg(long, value_name = "VERSION", conflicts_with = "key")]
    pub(crate) package_version: Option<String>,
}

/// The name and the time of a release.
struct Release {
    version: String,
    /// The time of all that carries one, in seconds since 1970: that of the commit.
    epoch: u64,
}

/// Makes the release; its folder.
pub(crate) async fn run(options: &Options) -> Result<PathBuf> {
    let architectures = match options.arch.as_slice() {
        [] => Arch::ALL.to_vec(),
        some => some.to_vec(),
    };
    let release = Release {
        // All packages of the workspace have one version.
        version: env!("CARGO_PKG_VERSION").to_owned(),
        epoch: epoch().await?,
    };
    let _lock = tools::lock("dist")?;
    if let Some(version) = &options.package_version {
        return repackage(&release, &architectures, version).await;
    }
    let mut folder = Folder::open(tools::target().join("dist"))?;
    let linked = linked::crates().await?;
    let stage = staged(&release, &architectures, &licences::make(&linked)?).await?;
    for arch in &architectures {
        let binary = folder::read(&binary::built(*arch))?;
        let name = release.binary(*arch);
        folder.put(&name, &binary, 0o755)?;
        folder.put(
            &format!("{name}.tar.gz"),
            &tarball::make(&name, &stage.for_tarball(&binary)?, release.epoch)?,
            0o644,
        )?;
        packages::make(*arch, &release.version, release.epoch, &mut folder).await?;
    }
    let sbom = sbom::make(&release, &linked)?;
    folder.put(&format!("{}.cdx.json", release.name()), &sbom, 0o644)?;
    let checksums = folder.checksums()?;
    folder.put("SHA256SUMS", checksums.as_bytes(), 0o644)?;
    let public_key = match &options.key {
        Some(key) => Some(signature::sign(key, &release.name(), &mut folder)?),
        None => None,
    };
    let binaries: Vec<_> = architectures.iter().map(|a| release.binary(*a)).collect();
    let script = installer::make(&release, &checksums, &binaries, public_key.as_deref())?;
    folder.put("install.sh", script.as_bytes(), 0o755)?;
    let path = folder.close()?;
    if public_key.is_none() {
        println!("not signed: --key FILE signs it with minisign");
    }
    Ok(path)
}

/// Builds the binaries, and the files that go with them.
async fn staged(release: &Release, all: &[Arch], licences: &str) -> Result<stage::Stage> {
    binary::build(all).await?;
    let agent = match Arch::ours() {
        Ok(ours) if all.contains(&ours) => binary::built(ours),
        // None of the binaries runs here.
        _ => {
            let [agent] = tools::build(["monsys-agent"], &[]).await?;
            agent
        }
    };
    stage::make(release, &agent, licences).await
}

/// Builds the agent of a release for this machine; its path.
pub(crate) async fn static_agent() -> Result<PathBuf> {
    let _lock = tools::lock("dist")?;
    let arch = Arch::ours()?;
    binary::build(&[arch]).await?;
    Ok(binary::built(arch))
}

/// Counts the crates that are linked into the agent, itself among them.
pub(crate) async fn linked_crates() -> Result<usize> {
    let linked = linked::crates().await?;
    let ids: BTreeSet<_> = linked
        .iter()
        .filter_map(|one| one.package["id"].as_str())
        .collect();
    Ok(ids.len())
}

/// The same trees under another version number.
async fn repackage(release: &Release, all: &[Arch], version: &str) -> Result<PathBuf> {
    if version.is_empty() || !version.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return Err(Stop::failed(format!(
            "--package-version {version}: digits and dots make a version, such as 0.0.9"
        )));
    }
    let mut folder = Folder::open(tools::target().join(format!("dist-{version}")))?;
    let licences = licences::make(&linked::crates().await?)?;
    staged(release, all, &licences).await?;
    for arch in all {
        packages::make(*arch, version, release.epoch, &mut folder).await?;
    }
    folder.close()
}

impl Release {
    /// `monsys-agent-0.1.0`
    fn name(&self) -> String {
        format!("monsys-agent-{}", self.version)
    }

    /// `monsys-agent-0.1.0-linux-x86_64`
    fn binary(&self, arch: Arch) -> String {
        format!("{}-linux-{}", self.name(), arch.kernel())
    }
}

/// The time of the newest commit, unless `SOURCE_DATE_EPOCH` names another one.
async fn epoch() -> Result<u64> {
    let epoch = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(epoch) => epoch,
        Err(_) => {
            let mut git = tokio::process::Command::new("git");
            git.args(["log", "-1", "--format=%ct"])
                .current_dir(tools::root());
            process::capture(&mut git).await?.stdout
        }
    };
    epoch.trim().parse().map_err(|_| {
        Stop::failed("this is not a git clone, so set SOURCE_DATE_EPOCH to seconds since 1970")
    })
}
