//! The one directory that holds all files of a demo: `hub/` is the hub's, `host/` the host's root.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::Token;
use super::output::hidden;
use scenarios::hub::Hub;
use xtask::error::{Context, Result, Stop};

/// Removed when it is dropped.
pub(crate) struct Scratch(TempDir);

impl Scratch {
    pub(crate) fn new() -> Result<Self> {
        tempfile::Builder::new()
            .prefix("monsys-demo-")
            .tempdir()
            .map(Self)
            .context(|| "could not make a scratch directory".to_owned())
    }

    /// The value of `--root`.
    pub(crate) fn host(&self) -> PathBuf {
        self.0.path().join("host")
    }

    pub(crate) fn hub(&self) -> PathBuf {
        self.0.path().join("hub")
    }

    /// The hub's CA, as the host has it.
    pub(crate) fn host_ca(&self) -> PathBuf {
        self.host().join("etc/hub-ca.pem")
    }

    /// Copies what the agent reads of the host, and the hub's CA. A file that this host does not
    /// have is left out.
    pub(crate) fn copy_host_files(&self, hub: &Hub) -> Result<()> {
        let etc = self.host().join("etc");
        fs::create_dir_all(&etc).context(|| format!("could not make {}", etc.display()))?;
        let os_release = (PathBuf::from("/etc/os-release"), etc.join("os-release"));
        let machine_id = (PathBuf::from("/etc/machine-id"), etc.join("machine-id"));
        let ca = hub.ca_file.clone().map(|file| (file, self.host_ca()));
        for (from, to) in [Some(os_release), Some(machine_id), ca]
            .into_iter()
            .flatten()
        {
            if from.exists() {
                fs::copy(&from, to).context(|| format!("could not copy {}", from.display()))?;
            }
        }
        Ok(())
    }

    /// The file that the enrolment wrote.
    pub(crate) fn agent_toml(&self) -> Result<AgentToml> {
        let path = self.host().join("etc/monsys/agent.toml");
        let what = || format!("could not read {}", path.display());
        let text = fs::read_to_string(&path).context(what)?;
        let values = text.parse().context(what)?;
        let mode = fs::metadata(&path).context(what)?.permissions().mode();
        let mode = format!("{:04o}", mode & 0o7777);
        Ok(AgentToml { text, values, mode })
    }

    /// Every file below the host's root that holds `secret`.
    pub(crate) fn host_files_with(&self, secret: &str) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut left = vec![self.host()];
        while let Some(path) = left.pop() {
            let what = || format!("could not read {}", path.display());
            if path.is_dir() {
                for entry in fs::read_dir(&path).context(what)? {
                    left.push(entry.context(what)?.path());
                }
            } else if path.is_file() {
                let bytes = fs::read(&path).context(what)?;
                if bytes
                    .windows(secret.len())
                    .any(|window| window == secret.as_bytes())
                {
                    found.push(path);
                }
            }
        }
        Ok(found)
    }

    /// Writes the variables that the lines after `$` use, for a shell to read.
    pub(crate) fn write_env(
        &self,
        hub: &Hub,
        agent: &Path,
        token: &Token,
        functions: &str,
    ) -> Result<PathBuf> {
        let ca = hub.ca_file.clone().unwrap_or_default();
        let bin = agent.parent().unwrap_or(Path::new("."));
        let lines = [
            format!("DEMO='{}'", self.0.path().display()),
            format!("HUB='{}'", hub.url),
            format!("CA='{}'", ca.display()),
            format!("ADMIN_TOKEN='{}'", hub.admin_token),
            format!("TOKEN='{}'", token.secret),
            format!("ID='{}'", token.id),
            format!("PATH='{}':$PATH", bin.display()),
            functions.to_owned(),
        ];
        let path = self.0.path().join("env");
        let what = || format!("could not write {}", path.display());
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| writeln!(file, "{}", lines.join("\n")))
            .context(what)?;
        Ok(path)
    }

    /// Removes it now, and says so if that cannot be done.
    pub(crate) fn remove(self) -> Result<()> {
        let path = self.0.path().to_owned();
        self.0
            .close()
            .map_err(|error| Stop::failed(format!("could not remove {}: {error}", path.display())))
    }
}

/// An `agent.toml` as it is on disk.
#[derive(PartialEq)]
pub(crate) struct AgentToml {
    text: String,
    values: toml::Table,
    /// Its permission bits, as `chmod` writes them.
    pub(crate) mode: String,
}

impl AgentToml {
    /// The value of `key`; empty when there is none.
    pub(crate) fn text(&self, key: &str) -> String {
        self.values
            .get(key)
            .and_then(toml::Value::as_str)
            .unwrap_or_default()
            .to_owned()
    }

    /// The list at `key`; empty when there is none.
    pub(crate) fn list(&self, key: &str) -> Vec<String> {
        let items = self.values.get(key).and_then(toml::Value::as_array);
        items
            .into_iter()
            .flatten()
            .filter_map(|item| item.as_str().map(str::to_owned))
            .collect()
    }

    /// The text, without the credential.
    pub(crate) fn masked(&self) -> String {
        let secret = self.text("agent_token");
        if secret.is_empty() {
            self.text.clone()
        } else {
            self.text.replace(&secret, &hidden(&secret))
        }
    }
}
