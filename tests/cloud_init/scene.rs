//! The parts of each test: Terraform, the hub, and hosts that enrol there.

use std::fs;
use std::path::PathBuf;

use mock_hub::Options;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::boot::Boot;
use crate::common::{Mint, TestHub};
use crate::terraform::Terraform;

const AGENT: &str = env!("CARGO_BIN_EXE_monsys-agent");

/// A token that no hub knows.
pub(crate) const UNKNOWN: &str = "enrl_0123456789";

pub(crate) struct Scene {
    pub(crate) terraform: Terraform,
    pub(crate) hub: TestHub,
    pub(crate) folder: TempDir,
}

/// A host-to-be: the root folder of its agent.toml, and the URL of its install.sh.
pub(crate) struct Host {
    pub(crate) root: PathBuf,
    pub(crate) install_url: String,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let hub = TestHub::with(Options {
            tls_dir: Some(folder.path().join("hub")),
            ..Options::default()
        });
        Self {
            terraform: Terraform::new(),
            hub,
            folder,
        }
    }

    /// A token with the defaults of the vectors.
    pub(crate) fn token(&self) -> String {
        self.hub.mint(&Mint::new().with("max_uses", json!(1000))).0
    }

    pub(crate) fn agent() -> &'static str {
        AGENT
    }

    /// A host whose install.sh is the agent alone, below a root of its own.
    pub(crate) fn host(&self, name: &str) -> Host {
        let root = self.folder.path().join("hosts").join(name);
        let enrol = format!("exec {AGENT} enrol --root {} \"$@\"", root.display());
        let install_url = self.install_sh(name, &enrol);
        Host { root, install_url }
    }

    /// Lays an install.sh with this body; its URL.
    pub(crate) fn install_sh(&self, name: &str, body: &str) -> String {
        let script = format!("#!/bin/sh\nmain() {{\n{body}\n}}\nmain \"$@\"\n");
        self.file(name, &script)
    }

    /// Lays any text in the place of install.sh; its URL.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let folder = self.dist().join(name);
        let path = folder.join("install.sh");
        fs::create_dir_all(&folder).unwrap();
        fs::write(&path, text).unwrap();
        format!("file://{}", path.display())
    }

    /// The folder of all install.sh.
    pub(crate) fn dist(&self) -> PathBuf {
        self.folder.path().join("dist")
    }

    /// The inputs that reach this hub, and `more`.
    pub(crate) fn inputs(&self, token: &str, install_url: &str, more: &Value) -> Value {
        let ca = fs::read_to_string(self.hub.ca_file().unwrap()).unwrap();
        let mut inputs = json!({"monsys_token": token, "hub_url": self.hub.url(), "ca_pem": ca,
            "install_url": install_url, "wait": "20s"});
        for (key, value) in more.as_object().into_iter().flatten() {
            inputs[key] = value.clone();
        }
        inputs
    }

    /// Boots with the module's user data for these inputs.
    #[track_caller]
    pub(crate) fn boot(&self, token: &str, install_url: &str, more: &Value, after: &str) -> Boot {
        let inputs = self.inputs(token, install_url, more);
        Boot::of(self.terraform.render_one(inputs).cloud_init, after)
    }

    /// The module's script for these inputs.
    #[track_caller]
    pub(crate) fn script(&self, token: &str, install_url: &str, more: &Value) -> String {
        let inputs = self.inputs(token, install_url, more);
        self.terraform.render_one(inputs).install_script
    }

    /// The settings by which a template reaches this hub, for [`filled_in`].
    pub(crate) fn settings(&self, token: &str, host: &Host) -> Vec<(&'static str, Vec<String>)> {
        let ca = self.hub.ca_file().unwrap();
        vec![
            (
                "INSTALL_URL",
                vec![format!("INSTALL_URL={}", host.install_url)],
            ),
            ("MONSYS_TOKEN", vec![format!("MONSYS_TOKEN={token}")]),
            (
                "MONSYS_HUB_URL",
                vec![
                    format!("MONSYS_HUB_URL={}", self.hub.url()),
                    format!("MONSYS_CA_FILE={}", ca.display()),
                ],
            ),
        ]
    }
}

impl Host {
    pub(crate) fn is_enrolled(&self) -> bool {
        self.root.join("etc/monsys/agent.toml").exists()
    }

    /// Its agent.toml, with names in the place of what differs each time; empty without one.
    pub(crate) fn agent_toml(&self, hub: &TestHub) -> String {
        let path = self.root.join("etc/monsys/agent.toml");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let line = |line: &str| match line.split_once(" = ") {
            Some((key @ ("agent_id" | "agent_token"), _)) => {
                format!("{key} = \"{{{}}}\"\n", key.to_ascii_uppercase())
            }
            _ => format!("{}\n", line.replace(&hub.url(), "{HUB_URL}")),
        };
        text.lines().map(line).collect()
    }
}

/// A template as a person fills it in: for each setting that is named, these lines of it.
pub(crate) fn filled_in(template: &str, settings: &[(&str, Vec<String>)]) -> String {
    let line = |line: &str| {
        let (indent, setting) = line.split_at(line.len() - line.trim_start().len());
        let name = setting.split_once('=').map(|(name, _)| name);
        match settings.iter().find(|(own, _)| Some(*own) == name) {
            Some((_, lines)) => lines
                .iter()
                .flat_map(|own| [indent, own, "\n"])
                .collect::<String>(),
            None => format!("{line}\n"),
        }
    };
    template.lines().map(line).collect()
}
