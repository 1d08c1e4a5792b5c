//! The table of tags and roles: Terraform's user data, its script and the template by hand all end in
//! the same agent.toml, byte for byte.

use std::fmt::Write;
use std::fs;

use serde_json::{Map, Value, json};

use crate::boot::Boot;
use crate::scene::{Host, Scene, filled_in};
use crate::templates::template;
use crate::terraform::Rendered;

/// Renders all vectors; a host for each.
fn rendered(scene: &Scene, vectors: &[Value]) -> Vec<(Host, Rendered)> {
    let token = scene.token();
    let (mut cases, mut hosts) = (Map::new(), Vec::new());
    for (n, vector) in vectors.iter().enumerate() {
        let own = json!({"tags": vector["tags"], "role": vector["role"], "user_data_limit": 65536});
        let host = scene.host(&n.to_string());
        let inputs = scene.inputs(&token, &host.install_url, &own);
        cases.insert(n.to_string(), inputs);
        hosts.push(host);
    }
    let rendered = scene.terraform.render(&cases);
    let hosts = hosts.into_iter().enumerate();
    hosts
        .map(|(n, host)| (host, Rendered::of(&rendered, &n.to_string())))
        .collect()
}

fn vectors() -> Vec<Value> {
    let table = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/agent_toml.json");
    let table: Value = serde_json::from_str(&fs::read_to_string(table).unwrap()).unwrap();
    table["vectors"].as_array().unwrap().clone()
}

#[test]
#[ignore = "needs root: makes mount namespaces"]
fn the_user_data_of_the_module_ends_in_this_agent_toml() {
    let (scene, vectors) = (Scene::new(), vectors());
    for (vector, (host, rendered)) in vectors.iter().zip(rendered(&scene, &vectors)) {
        let boot = Boot::of(rendered.cloud_init, ":");
        is_the_same(&scene, &host, vector, &boot);
    }
}

/// One boot for all scripts: each leaves the place as it found it.
#[test]
#[ignore = "needs root: makes mount namespaces"]
fn the_script_of_the_module_ends_in_this_agent_toml() {
    let (scene, vectors) = (Scene::new(), vectors());
    let hosts = rendered(&scene, &vectors);
    let mut all = String::new();
    for (n, (_, rendered)) in hosts.iter().enumerate() {
        let path = scene.folder.path().join(format!("script-{n}"));
        fs::write(&path, &rendered.install_script).unwrap();
        writeln!(all, "sh {}", path.display()).unwrap();
    }
    let boot = Boot::of("#cloud-config\n{}\n", &all);
    for (vector, (host, _)) in vectors.iter().zip(&hosts) {
        is_the_same(&scene, host, vector, &boot);
    }
}

#[test]
#[ignore = "needs root: makes mount namespaces"]
fn the_template_by_hand_ends_in_this_agent_toml() {
    let scene = Scene::new();
    let token = scene.token();
    for (n, vector) in vectors().iter().enumerate() {
        let host = scene.host(&n.to_string());
        let tags = vector["tags"].as_array().unwrap().iter();
        let tags = tags.map(|tag| format!("TAG={}", tag.as_str().unwrap()));
        let role = vector["role"].as_str().unwrap_or_default();
        let mut settings = scene.settings(&token, &host);
        settings.push(("TAG", tags.collect()));
        settings.push(("MONSYS_ROLE", vec![format!("MONSYS_ROLE={role}")]));
        let boot = Boot::of(filled_in(&template("plain.yaml"), &settings), ":");
        is_the_same(&scene, &host, vector, &boot);
    }
}

#[track_caller]
fn is_the_same(scene: &Scene, host: &Host, vector: &Value, boot: &Boot) {
    let (toml, expected) = (host.agent_toml(&scene.hub), &vector["agent_toml"]);
    let expected = expected.as_str().unwrap();
    let name = &vector["name"];
    let otherwise = format!("{name}: agent.toml is\n{toml}\nand should be\n{expected}");
    boot.expect(boot.is_done() && toml == expected, &otherwise);
}
