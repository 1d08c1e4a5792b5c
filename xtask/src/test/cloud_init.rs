//! The user data of the Terraform module and the templates, taken by cloud-init itself, with the
//! real agent and the real hub behind it.

mod aws;
mod boots;
mod fetching;
mod outcomes;
mod references;
mod server;
mod vectors;

use std::fs;
use std::path::PathBuf;

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::Count;
use crate::cloud_config;
use crate::cloud_init::{Boot, CloudInit};
use crate::error::{Context, Result, Stop};
use crate::hub::{Hub, Operator, text};
use crate::terraform::{Rendered, Terraform};
use crate::tools;

pub(crate) async fn run() -> Result<Count> {
    let scene = Scene::new().await?;
    let mut count = Count::default();
    count.check(
        "the templates are what the module makes",
        up_to_date(&scene).await,
    );
    templates(&scene, &mut count).await?;
    vectors::run(&scene, &mut count).await?;
    boots::run(&scene, &mut count).await?;
    outcomes::run(&scene, &mut count).await;
    fetching::run(&scene, &mut count).await?;
    references::run(&scene, &mut count).await?;
    scene.hub.stop().await?;
    Ok(count)
}

/// What all of them need: cloud-init, Terraform, the agent, a hub, and a folder of their own.
struct Scene {
    cloud_init: CloudInit,
    terraform: Terraform,
    agent: PathBuf,
    hub: Hub,
    operator: Operator,
    folder: TempDir,
}

/// A host to be: where its agent.toml will be, and where its install.sh is.
struct Host {
    root: PathBuf,
    install_url: String,
}

impl Scene {
    async fn new() -> Result<Self> {
        let cloud_init = CloudInit::get().await?;
        let terraform = Terraform::new("cloud-init").await?;
        let programs = tools::build().await?;
        let folder = tempfile::tempdir().context(|| "no scratch directory".to_owned())?;
        let hub = Hub::start(&programs.hub, &folder.path().join("hub")).await?;
        Ok(Self {
            operator: hub.operator()?,
            agent: programs.agent,
            cloud_init,
            terraform,
            hub,
            folder,
        })
    }

    /// A token with the defaults of the document and of the vectors.
    async fn token(&self) -> Result<String> {
        let wanted = json!({"name": "cloud-init", "ttl_secs": 3600, "max_uses": 1000,
            "default_tags": ["prod", "eu-west", "web"], "default_role": "web"});
        let minted = self.operator.post("enrolment-tokens", &wanted).await?;
        text(&minted, "token")
    }

    /// A host whose install.sh is the agent alone, below a root of its own.
    fn host(&self, name: &str) -> Result<Host> {
        let root = self.folder.path().join("hosts").join(name);
        let enrol = format!(
            "exec {} enrol --root {} \"$@\"",
            self.agent.display(),
            root.display()
        );
        let install_url = self.install_sh(name, &enrol)?;
        Ok(Host { root, install_url })
    }

    /// An install.sh that does just that; its URL.
    fn install_sh(&self, name: &str, body: &str) -> Result<String> {
        self.file(
            name,
            &format!("#!/bin/sh\nmain() {{\n{body}\n}}\nmain \"$@\"\n"),
        )
    }

    /// Any file in the place of install.sh; its URL.
    fn file(&self, name: &str, text: &str) -> Result<String> {
        let folder = self.folder.path().join("dist").join(name);
        let path = folder.join("install.sh");
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(&path, text))
            .context(|| format!("could not write {}", path.display()))?;
        Ok(format!("file://{}", path.display()))
    }

    /// The inputs that reach this hub, and `more`.
    fn inputs(&self, token: &str, install_url: &str, more: &Value) -> Result<Value> {
        let ca = self.hub.ca_file.clone().unwrap_or_default();
        let ca = fs::read_to_string(&ca).context(|| format!("could not read {}", ca.display()))?;
        let mut inputs = json!({"monsys_token": token, "hub_url": self.hub.url, "ca_pem": ca,
            "install_url": install_url, "wait": "20s"});
        for (key, value) in more.as_object().into_iter().flatten() {
            inputs[key] = value.clone();
        }
        Ok(inputs)
    }

    /// What the module makes of one case.
    async fn render(&self, inputs: Value) -> Result<Rendered> {
        let cases = Map::from_iter([("one".to_owned(), inputs)]);
        Rendered::of(&self.terraform.render(&cases).await?, "one")
    }

    /// The settings by which a template reaches this hub, for [`filled_in`].
    fn settings(&self, token: &str, host: &Host) -> [(&'static str, Vec<String>); 3] {
        let ca = self.hub.ca_file.clone().unwrap_or_default();
        [
            (
                "INSTALL_URL",
                vec![format!("INSTALL_URL={}", host.install_url)],
            ),
            ("MONSYS_TOKEN", vec![format!("MONSYS_TOKEN={token}")]),
            (
                "MONSYS_HUB_URL",
                vec![
                    format!("MONSYS_HUB_URL={}", self.hub.url),
                    format!("MONSYS_CA_FILE={}", ca.display()),
                ],
            ),
        ]
    }

    async fn boot(&self, user_data: impl AsRef<[u8]>, after: &str) -> Result<Boot> {
        let meta_data = "instance-id: i-1\n";
        self.cloud_init
            .first_boot(user_data, meta_data, Some(after))
            .await
    }
}

impl Host {
    /// Its agent.toml, with what is another each time filled out.
    fn agent_toml(&self, hub: &Hub) -> Result<String> {
        let path = self.root.join("etc/monsys/agent.toml");
        let text = fs::read_to_string(&path).context(|| format!("no {}", path.display()))?;
        let line = |line: &str| match line.split_once(" = ") {
            Some((key @ ("agent_id" | "agent_token"), _)) => {
                format!("{key} = \"{{{}}}\"\n", key.to_ascii_uppercase())
            }
            _ => format!("{}\n", line.replace(&hub.url, "{HUB_URL}")),
        };
        Ok(text.lines().map(line).collect())
    }
}

/// A template as a person fills it in: for each setting that is named, these lines of it.
fn filled_in(template: &str, settings: &[(&str, Vec<String>)]) -> String {
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

/// An error that tells all of a boot, unless `ok`.
fn expect(ok: bool, boot: &Boot, what: &str) -> Result<()> {
    if ok {
        Ok(())
    } else {
        Err(Stop::failed(format!("{what}:\n{}", boot.told())))
    }
}

async fn up_to_date(scene: &Scene) -> Result<()> {
    for (name, text) in cloud_config::all(&scene.terraform).await? {
        let path = tools::root().join(cloud_config::FOLDER).join(name);
        if fs::read_to_string(&path).unwrap_or_default() != text {
            return Err(Stop::failed(format!(
                "{name} is not: run `cargo xtask cloud-init`"
            )));
        }
    }
    Ok(())
}

/// cloud-init runs each template to its end, and its schema takes what it has made of it.
async fn templates(scene: &Scene, count: &mut Count) -> Result<()> {
    let nothing = scene.install_sh("nothing", "echo \"install.sh $*\"")?;
    let schema = "\"$CLOUD_INIT\" schema --config-file /var/lib/cloud/instance/cloud-config.txt";
    for (name, text) in cloud_config::all(&scene.terraform).await? {
        let user_data = filled_in(
            &text,
            &[("INSTALL_URL", vec![format!("INSTALL_URL={nothing}")])],
        );
        let boot = scene.boot(&user_data, schema).await?;
        let ok = boot.is_done()
            && boot.output.contains("install.sh")
            && boot.after.contains("Valid cloud-config")
            && boot.left.is_empty();
        count.check(
            name,
            expect(ok, &boot, "not run to its end, or not of the schema"),
        );
    }
    Ok(())
}
