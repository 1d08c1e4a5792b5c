//! The table of tags and roles: Terraform's user data, its script and the template by hand all end
//! in the same agent.toml, byte for byte.

use std::fmt::Write;
use std::fs;

use serde_json::{Map, Value, json};

use super::super::Count;
use super::{Host, Scene, expect, filled_in};
use crate::cloud_config;
use crate::error::{Context, Result, Stop};
use crate::terraform::Rendered;
use crate::tools;

const TABLE: &str = "tests/vectors/agent_toml.json";

pub(super) async fn run(scene: &Scene, count: &mut Count) -> Result<()> {
    let table = fs::read_to_string(tools::root().join(TABLE))
        .context(|| format!("could not read {TABLE}"))?;
    let table: Value = serde_json::from_str(&table).context(|| TABLE.to_owned())?;
    let vectors = table["vectors"].as_array().cloned().unwrap_or_default();
    let token = scene.token().await?;

    let mut cases = Map::new();
    let (mut hosts, mut scripted) = (Vec::new(), Vec::new());
    for (n, vector) in vectors.iter().enumerate() {
        let own = json!({"tags": vector["tags"], "role": vector["role"], "user_data_limit": 65536});
        for (form, hosts) in [("plain", &mut hosts), ("script", &mut scripted)] {
            let host = scene.host(&format!("{form}-{n}"))?;
            let inputs = scene.inputs(&token, &host.install_url, &own)?;
            cases.insert(format!("{form}-{n}"), inputs);
            hosts.push(host);
        }
    }
    let rendered = scene.terraform.render(&cases).await?;
    for (n, (vector, host)) in vectors.iter().zip(&hosts).enumerate() {
        let user_data = Rendered::of(&rendered, &format!("plain-{n}"))?.cloud_init;
        let boot = scene.boot(&user_data, ":").await?;
        let same = same(scene, host, vector).and_then(|()| expect(boot.is_done(), &boot, "failed"));
        count.check(&name("Terraform", vector), same);
    }

    // One boot for all the scripts: each leaves the place as it found it.
    let mut all = String::new();
    for (n, _) in vectors.iter().enumerate() {
        let script = Rendered::of(&rendered, &format!("script-{n}"))?.install_script;
        let path = scene.folder.path().join(format!("script-{n}"));
        fs::write(&path, script.unwrap_or_default()).context(|| "a script".to_owned())?;
        let _ = writeln!(all, "sh {}", path.display());
    }
    let boot = scene.boot("#cloud-config\n{}\n", &all).await?;
    for (vector, host) in vectors.iter().zip(&scripted) {
        let same = same(scene, host, vector)
            .map_err(|cause| Stop::failed(format!("{cause}\n{}", boot.told())));
        count.check(&name("install_script", vector), same);
    }

    for (n, vector) in vectors.iter().enumerate() {
        let host = scene.host(&format!("template-{n}"))?;
        let boot = scene
            .boot(&by_hand(scene, &token, &host, vector)?, ":")
            .await?;
        let same =
            same(scene, &host, vector).and_then(|()| expect(boot.is_done(), &boot, "failed"));
        count.check(&name("cloud-init/plain.yaml", vector), same);
    }
    Ok(())
}

/// The template as a person fills it in.
fn by_hand(scene: &Scene, token: &str, host: &Host, vector: &Value) -> Result<String> {
    let path = tools::root().join(cloud_config::FOLDER).join("plain.yaml");
    let template = fs::read_to_string(&path).context(|| "no plain.yaml".to_owned())?;
    let tags = vector["tags"].as_array().into_iter().flatten();
    let tags = tags
        .filter_map(Value::as_str)
        .map(|tag| format!("TAG={tag}"));
    let role = vector["role"].as_str().unwrap_or_default();
    let mut settings = Vec::from(scene.settings(token, host));
    settings.push(("TAG", tags.collect()));
    settings.push(("MONSYS_ROLE", vec![format!("MONSYS_ROLE={role}")]));
    Ok(filled_in(&template, &settings))
}

fn same(scene: &Scene, host: &Host, vector: &Value) -> Result<()> {
    let (is, should_be) = (host.agent_toml(&scene.hub)?, vector["agent_toml"].as_str());
    if Some(is.as_str()) == should_be {
        return Ok(());
    }
    let should_be = should_be.unwrap_or_default();
    Err(Stop::failed(format!(
        "agent.toml is\n{is}\nand should be\n{should_be}"
    )))
}

fn name(form: &str, vector: &Value) -> String {
    format!("{form}, {}", vector["name"])
}
