//! The files beside the binary: manual pages, completions, service files, licences.
//!
//! Pages and completions come from the agent's own commands: they are the same for every architecture. The staged files are below `target/stage/`, where the metadata of
//! the packages in Cargo.toml names them.

use std::fs;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::process::Command;

use super::Release;
use super::folder::{read, write};
use super::tarball::{Entry, gzip};
use xtask::error::{Context, Result, Stop};
use xtask::{process, tools};

/// The shells, and how each wants its file to be called.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "monsys-agent.bash"),
    ("fish", "monsys-agent.fish"),
    ("zsh", "_monsys-agent"),
];

/// The licences of others.
pub(super) const LICENCES: &str = "THIRD-PARTY-LICENSES";

pub(super) struct Stage {
    folder: PathBuf,
}

pub(super) fn folder() -> PathBuf {
    tools::target().join("stage")
}

/// Fills the folder again.
pub(super) async fn make(release: &Release, agent: &Path, licences: &str) -> Result<Stage> {
    let stage = Stage { folder: folder() };
    for part in ["man", "man-gz", "completions", "deb"] {
        let part = stage.folder.join(part);
        fs::create_dir_all(&part).context(|| format!("could not make {}", part.display()))?;
    }
    let man = stage.folder.join("man");
    for stale in files(&man)?
        .iter()
        .chain(&files(&stage.folder.join("man-gz"))?)
    {
        fs::remove_file(stale).context(|| format!("could not remove {}", stale.display()))?;
    }
    let agent = || {
        let mut agent = Command::new(agent);
        agent.env_clear();
        agent
    };
    process::stdout_of(agent().arg("man").arg(&man)).await?;
    for page in files(&man)? {
        let name = format!("man-gz/{}.gz", name(&page));
        write(&stage.folder.join(name), &gzip(&read(&page)?)?, 0o644)?;
    }
    for (shell, file) in COMPLETIONS {
        let script = process::stdout_of(agent().args(["completions", shell])).await?;
        let path = stage.folder.join("completions").join(file);
        write(&path, script.as_bytes(), 0o644)?;
    }
    write(&stage.folder.join(LICENCES), licences.as_bytes(), 0o644)?;
    let compressed = stage.folder.join(format!("deb/{LICENCES}.gz"));
    write(&compressed, &gzip(licences.as_bytes())?, 0o644)?;
    let upstream = gzip(&read(&tools::root().join("CHANGELOG.md"))?)?;
    write(&stage.folder.join("deb/changelog.gz"), &upstream, 0o644)?;
    let changelog = gzip(changelog(release)?.as_bytes())?;
    write(
        &stage.folder.join("deb/changelog.Debian.gz"),
        &changelog,
        0o644,
    )?;
    Ok(stage)
}

impl Stage {
    /// All of a tarball: the binary, and what its user may want to put somewhere by hand.
    pub(super) fn for_tarball(&self, binary: &[u8]) -> Result<Vec<Entry>> {
        let root = tools::root();
        let mut entries = vec![Entry::new("monsys-agent", binary.to_owned(), 0o755)];
        for file in ["CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT", "README.md"] {
            entries.push(Entry::new(file, read(&root.join(file))?, 0o644));
        }
        let licences = read(&self.folder.join(LICENCES))?;
        entries.push(Entry::new(LICENCES, licences, 0o644));
        for (place, folder) in [
            ("completions", self.folder.join("completions")),
            ("man", self.folder.join("man")),
            ("openrc", root.join("packaging/openrc")),
            ("systemd", root.join("packaging/systemd")),
        ] {
            for file in files(&folder)? {
                let mode = if place == "openrc" { 0o755 } else { 0o644 };
                let path = format!("{place}/{}", name(&file));
                entries.push(Entry::new(&path, read(&file)?, mode));
            }
        }
        Ok(entries)
    }
}

/// Debian wants one of its own form beside the project's, which it points to.
fn changelog(release: &Release) -> Result<String> {
    let date = i64::try_from(release.epoch)
        .ok()
        .and_then(|epoch| OffsetDateTime::from_unix_timestamp(epoch).ok())
        .and_then(|time| time.format(&Rfc2822).ok())
        .ok_or_else(|| Stop::failed(format!("{} is not a time", release.epoch)))?;
    Ok(format!(
        "monsys-agent ({}-1) stable; urgency=medium\n\n  \
         * The changes are listed in changelog.gz beside this file.\n\n \
         -- monsys-agent contributors <packages@monsys.ai>  {date}\n",
        release.version
    ))
}

/// The files of a folder, by name; none when there is no such folder.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let what = || format!("could not read {}", folder.display());
    let mut files = Vec::new();
    if folder.is_dir() {
        for entry in fs::read_dir(folder).context(what)? {
            files.push(entry.context(what)?.path());
        }
    }
    files.sort();
    Ok(files)
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_changelog_is_one_that_debian_reads() {
        let release = Release {
            version: "0.1.0".to_owned(),
            epoch: 1_700_000_000,
        };
        let text = changelog(&release).unwrap();
        assert!(text.starts_with("monsys-agent (0.1.0-1) stable; urgency=medium\n\n  * "));
        assert!(
            text.ends_with(">  Tue, 14 Nov 2023 22:13:20 +0000\n"),
            "{text}"
        );
    }
}
