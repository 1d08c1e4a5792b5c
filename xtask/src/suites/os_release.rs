//! The agent's os-release reader beside Python's own and `distro`'s, over every os-release file
//! that the tests of some well-known projects carry.

use std::fs;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::Count;
use xtask::error::{Context, Result, Stop};
use xtask::{process, tools};

/// The source archives whose files are read, with their hashes.
const ARCHIVES: &str = "tests/os-release/archives.txt";

pub(crate) async fn run() -> Result<Count> {
    let [agent] = tools::build(["monsys-agent"], &[]).await?;
    let bin = tools::venv("os-release", "tests/os-release/requirements.txt").await?;
    let mut compare = Command::new(bin.join("python"));
    compare
        .args(["-B", "tests/os-release/compare.py"])
        .arg(agent)
        .args(archives(&bin).await?)
        .current_dir(tools::root());
    let mut count = None;
    let status = process::watch(&mut compare, |line| {
        println!("{line}");
        count = Count::from_closing_line(line).or(count);
    })
    .await?;
    count.ok_or_else(|| Stop::failed(format!("compare.py did not count: {status}")))
}

/// The source archives, downloaded when their list has changed.
async fn archives(bin: &Path) -> Result<Vec<PathBuf>> {
    let dir = tools::target().join("os-release");
    let list = fs::read_to_string(tools::root().join(ARCHIVES))
        .context(|| format!("could not read {ARCHIVES}"))?;
    tools::once(&dir, &list, async || {
        println!("downloading {ARCHIVES} into {}", tools::shown(&dir));
        let mut pip = Command::new(bin.join("pip"));
        pip.args([
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
        ])
        .args([
            "--no-binary=:all:",
            "--require-hashes",
            "--requirement",
            ARCHIVES,
            "--dest",
        ])
        .arg(&dir)
        .current_dir(tools::root());
        tools::install(&mut pip).await
    })
    .await?;
    let files = fs::read_dir(&dir).context(|| format!("could not read {}", dir.display()))?;
    let mut archives: Vec<_> = files.filter_map(|file| Some(file.ok()?.path())).collect();
    archives.retain(|file| file.extension().is_some_and(|extension| extension == "gz"));
    archives.sort();
    Ok(archives)
}
