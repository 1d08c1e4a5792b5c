//! The recipes of `monsys_token_from`, each run by the real agent, which enrols with the token that it
//! gets. The clouds' services are replaced on loopback, and require what the real ones require.

use std::fs;

use serde_json::{Value, json};

use crate::aws::Aws;
use crate::boot::Boot;
use crate::scene::Scene;
use crate::server::Server;

#[test]
#[ignore = "needs root: makes mount namespaces"]
fn a_token_comes_from_a_file() {
    let (scene, token) = with_token();
    let file = scene.folder.path().join("the token's file");
    fs::write(&file, format!("{token}\n")).unwrap();
    enrols(&scene, "file", &json!(file), "", &token);
}

#[test]
#[ignore = "needs root: makes mount namespaces"]
fn a_token_comes_from_a_command() {
    let (scene, token) = with_token();
    let file = scene.folder.path().join("the token's file");
    fs::write(&file, format!("{token}\n")).unwrap();
    let command = format!("cat \"{}\" | head -n 1", file.display());
    enrols(&scene, "command", &json!(command), "", &token);
}

#[test]
#[ignore = "needs root: makes mount namespaces"]
fn a_token_comes_from_aws() {
    let (scene, token) = with_token();
    let aws = Aws::start(&scene, &token);
    let parameter = json!({"name": "/monsys/enrolment", "region": "eu-west-1"});
    let environment = aws.environment();
    enrols(
        &scene,
        "aws_ssm_parameter",
        &parameter,
        &environment,
        &token,
    );
    let secret = json!({"secret_id": "monsys/enrolment", "region": "eu-west-1"});
    enrols(&scene, "aws_secretsmanager", &secret, &environment, &token);
}

#[test]
#[ignore = "needs root: makes mount namespaces"]
fn a_token_comes_from_google() {
    let (scene, token) = with_token();
    let server = Server::start(&scene, scene.folder.path(), &token);
    let environment = format!(
        "GCE_METADATA_HOST=127.0.0.1:{} CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER=https://127.0.0.1:{}/",
        server.http, server.https
    );
    let secret = json!({"project": "prod-1", "secret": "monsys-enrolment"});
    enrols(&scene, "gcp_secret", &secret, &environment, &token);
}

#[test]
#[ignore = "needs root: makes mount namespaces"]
fn a_token_comes_from_azure() {
    let (scene, token) = with_token();
    let server = Server::start(&scene, scene.folder.path(), &token);
    let environment = format!(
        "AZURE_POD_IDENTITY_AUTHORITY_HOST=http://127.0.0.1:{}",
        server.http
    );
    let vault = format!("https://127.0.0.1:{}", server.https);
    let secret = json!({"vault": vault, "secret": "monsys-enrolment"});
    enrols(&scene, "azure_key_vault", &secret, &environment, &token);
}

fn with_token() -> (Scene, String) {
    let scene = Scene::new();
    let token = scene.token();
    (scene, token)
}

/// The token is on the host only once the host has fetched it, and not in the user data. A `~/.curlrc` of
/// root does not apply.
#[track_caller]
fn enrols(scene: &Scene, name: &str, from: &Value, environment: &str, token: &str) {
    let host = scene.host(&format!("token-from-{name}"));
    let more = json!({"monsys_token": null, "monsys_token_from": {name: from}});
    let script = scene.script("", &host.install_url, &more);
    assert!(!script.contains(token), "the script holds the token");
    let path = scene.folder.path().join("reference");
    fs::write(&path, script).unwrap();
    let home = scene.folder.path();
    fs::write(
        home.join(".curlrc"),
        "proxy = http://127.0.0.1:1\ninclude\n",
    )
    .unwrap();
    let run = format!(
        "HOME={} CURL_CA_BUNDLE={} {environment} sh {}",
        home.display(),
        scene.hub.ca_file().unwrap().display(),
        path.display()
    );
    let boot = Boot::of("#cloud-config\n{}\n", &run);
    boot.expect(host.is_enrolled() && boot.left.is_empty(), "not enrolled");
}
