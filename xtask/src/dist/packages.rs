//! deb and rpm, by cargo-deb and cargo-generate-rpm, from the binary that is there already. What
//! is in them is said in Cargo.toml, under `package.metadata`.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use tokio::process::Command;

use super::arch::Arch;
use super::folder::{read, sha256, write};
use super::{Folder, binary, md5sums, stage, sysroot};
use xtask::error::{Context, Result, Stop};
use xtask::{process, tools};

const CARGO_DEB: (&str, &str) = ("cargo-deb", "3.8.0");
const CARGO_GENERATE_RPM: (&str, &str) = ("cargo-generate-rpm", "0.21.1");
/// The version of a package whose program's version is the same.
const REVISION: &str = "1";

/// Makes both packages of one architecture.
pub(super) async fn make(arch: Arch, version: &str, epoch: u64, folder: &mut Folder) -> Result<()> {
    let inputs = inputs(arch, version, epoch)?;
    let deb = format!("monsys-agent_{version}-{REVISION}_{}.deb", arch.debian());
    let deb = folder.keep(&deb);
    if !up_to_date(&deb, &inputs)? {
        println!("packaging {}", tools::shown(&deb));
        let mut cargo_deb = tool(CARGO_DEB).await?;
        cargo_deb
            .args(["--no-build", "--no-strip", "--locked", "--quiet"])
            .args(["--profile", "dist", "--target", arch.target()])
            .args(["--deb-version", &format!("{version}-{REVISION}")])
            .arg("--output")
            .arg(&deb)
            .env("CARGO_TARGET_DIR", sysroot::target())
            .env("SOURCE_DATE_EPOCH", epoch.to_string());
        process::run(&mut cargo_deb).await?;
        write(&deb, &md5sums::added(&read(&deb)?, epoch)?, 0o644)?;
        made_from(&deb, &inputs)?;
    }
    let rpm = format!("monsys-agent-{version}-{REVISION}.{}.rpm", arch.kernel());
    let rpm = folder.keep(&rpm);
    if !up_to_date(&rpm, &inputs)? {
        println!("packaging {}", tools::shown(&rpm));
        stage_for_rpm(arch, epoch)?;
        let mut cargo_rpm = tool(CARGO_GENERATE_RPM).await?;
        cargo_rpm
            .args(["--arch", arch.kernel(), "--auto-req", "disabled"])
            // Every rpm of the last ten years reads it.
            .args(["--payload-compress", "xz"])
            .args(["--set-metadata", &format!("version = \"{version}\"")])
            .args(["--source-date", &epoch.to_string()])
            .arg("--output")
            .arg(&rpm);
        process::run(&mut cargo_rpm).await?;
        made_from(&rpm, &inputs)?;
    }
    Ok(())
}

/// Copies all that is in the rpm to where Cargo.toml says, with the release's time: what is older
/// than that keeps its own in an rpm.
fn stage_for_rpm(arch: Arch, epoch: u64) -> Result<()> {
    let target = stage::folder().join("rpm");
    let root = tools::root();
    let mut sources = vec![
        (binary::built(arch), 0o755),
        (stage::folder().join(stage::LICENCES), 0o644),
    ];
    for file in ["CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT", "README.md"] {
        sources.push((root.join(file), 0o644));
    }
    for folder in [
        root.join("packaging/systemd"),
        stage::folder().join("completions"),
        stage::folder().join("man-gz"),
    ] {
        sources.extend(stage::files(&folder)?.into_iter().map(|file| (file, 0o644)));
    }
    if target.exists() {
        fs::remove_dir_all(&target).context(|| format!("could not clear {}", target.display()))?;
    }
    fs::create_dir_all(&target).context(|| format!("could not make {}", target.display()))?;
    let time = SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs(epoch))
        .ok_or_else(|| Stop::failed("SOURCE_DATE_EPOCH is a time that no file can have"))?;
    for (source, mode) in sources {
        let copy = target.join(source.file_name().unwrap_or_default());
        write(&copy, &read(&source)?, mode)?;
        File::open(&copy)
            .and_then(|file| file.set_modified(time))
            .context(|| format!("could not set the time of {}", copy.display()))?;
    }
    Ok(())
}

/// The tool, installed once. A debug build of it packs as well, and is there much sooner.
async fn tool((name, version): (&str, &str)) -> Result<Command> {
    let root = tools::target().join("tools").join(name);
    tools::once(&root, version, async || {
        println!("installing {name} {version} into {}", tools::shown(&root));
        let mut cargo = tools::cargo(&["install", name, "--version", version]);
        cargo
            .args(["--locked", "--debug", "--quiet", "--root"])
            .arg(&root)
            .arg("--target-dir")
            .arg(tools::target().join("tools/build"))
            .env("CARGO_PROFILE_DEV_DEBUG", "0");
        tools::install(&mut cargo).await
    })
    .await?;
    let mut command = Command::new(root.join("bin").join(name));
    command.current_dir(tools::root());
    Ok(command)
}

/// All that a package is made from, in one number.
fn inputs(arch: Arch, version: &str, epoch: u64) -> Result<String> {
    let mut all = format!("{version} {epoch} md5sums\n");
    let mut add = |file: &Path| -> Result<()> {
        let _ = writeln!(all, "{} {}", sha256(&read(file)?), file.display());
        Ok(())
    };
    add(&binary::built(arch))?;
    for file in ["Cargo.toml", "CHANGELOG.md", "README.md"] {
        add(&tools::root().join(file))?;
    }
    let packaging =
        ["deb", "rpm", "systemd"].map(|part| tools::root().join("packaging").join(part));
    let staged = ["man-gz", "completions", "deb"].map(|part| stage::folder().join(part));
    for folder in packaging.iter().chain(&staged) {
        for file in stage::files(folder)? {
            add(&file)?;
        }
    }
    Ok(sha256(all.as_bytes()))
}

fn up_to_date(package: &Path, inputs: &str) -> Result<bool> {
    let Ok(stamp) = fs::read_to_string(stamp(package)) else {
        return Ok(false);
    };
    Ok(package.exists() && stamp == format!("{inputs} {}", sha256(&read(package)?)))
}

fn made_from(package: &Path, inputs: &str) -> Result<()> {
    let stamp = stamp(package);
    let folder = stamp.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).context(|| format!("could not make {}", folder.display()))?;
    let text = format!("{inputs} {}", sha256(&read(package)?));
    fs::write(&stamp, text).context(|| format!("could not write {}", stamp.display()))
}

fn stamp(package: &Path) -> std::path::PathBuf {
    let name = package.file_name().unwrap_or_default();
    sysroot::target().join("stamps").join(name)
}
