//! `tests/cloud-init/serve.py` as a child.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::scene::Scene;

/// A mirror over TLS, with the hub's own certificate, and the clouds' services. Dropping it ends it.
pub(crate) struct Server {
    pub(crate) https: u64,
    pub(crate) http: u64,
    python: Child,
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    /// Starts it over `folder`; its secret services give `token`.
    pub(crate) fn start(scene: &Scene, folder: &Path, token: &str) -> Self {
        let tls = scene.folder.path().join("hub");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cloud-init/serve.py");
        let mut python = Command::new("python3")
            .arg(script)
            .arg(folder)
            .args([tls.join("leaf.pem"), tls.join("leaf.key")])
            .arg(token)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(python.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let ports: Value = serde_json::from_str(&line).expect("the ports of serve.py");
        let port = |name: &str| ports[name].as_u64().unwrap();
        Self {
            https: port("https"),
            http: port("http"),
            python,
            _stdout: stdout,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.python.kill();
        let _ = self.python.wait();
    }
}
