//! `tests/cloud-init/serve.py` as a child.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{BufReader, Lines};
use tokio::process::{ChildStdout, Command};

use super::Scene;
use crate::error::{Context, Result, Stop};
use crate::process::{self, Running};
use crate::tools;

/// How long it may take until it answers.
const START: Duration = Duration::from_secs(30);

/// A mirror over TLS, with the hub's own certificate, and the clouds' services. Dropping it ends it.
pub(super) struct Server {
    pub(super) https: u64,
    pub(super) http: u64,
    _running: Running,
    _stdout: Lines<BufReader<ChildStdout>>,
}

impl Server {
    /// Starts it over `folder`; its secret services give `token`.
    pub(super) async fn start(scene: &Scene, folder: &Path, token: &str) -> Result<Self> {
        let tls = scene.folder.path().join("hub");
        let mut python = Command::new("python3");
        python
            .arg(tools::root().join("tests/cloud-init/serve.py"))
            .arg(folder)
            .args([tls.join("leaf.pem"), tls.join("leaf.key")])
            .arg(token)
            .stdout(Stdio::piped());
        let mut running = Running::spawn(&mut python)?;
        let mut stdout = running.lines()?;
        let line = tokio::time::timeout(START, process::next_line("serve.py", &mut stdout))
            .await
            .unwrap_or(Ok(None))?
            .ok_or_else(|| Stop::failed("serve.py did not say where it listens"))?;
        let ports: Value = serde_json::from_str(&line).context(|| "serve.py".to_owned())?;
        let port = |name: &str| ports[name].as_u64().unwrap_or_default();
        Ok(Self {
            https: port("https"),
            http: port("http"),
            _running: running,
            _stdout: stdout,
        })
    }
}
