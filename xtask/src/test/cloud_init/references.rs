//! The recipes of `monsys_token_from`, each run by the real agent, which enrols with what it gets.
//! The clouds' services are stood for on loopback, and ask for what the real ones ask for.

use std::fs;

use serde_json::{Value, json};

use super::super::Count;
use super::aws::Aws;
use super::server::Server;
use super::{Scene, expect};
use crate::error::{Context, Result, Stop};

pub(super) async fn run(scene: &Scene, count: &mut Count) -> Result<()> {
    let token = scene.token().await?;
    let server = Server::start(scene, scene.folder.path(), &token).await?;
    let file = scene.folder.path().join("the token's file");
    fs::write(&file, format!("{token}\n")).context(|| "the token's file".to_owned())?;

    let google = format!(
        "GCE_METADATA_HOST=127.0.0.1:{} CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER=https://127.0.0.1:{}/",
        server.http, server.https
    );
    let azure = format!(
        "AZURE_POD_IDENTITY_AUTHORITY_HOST=http://127.0.0.1:{}",
        server.http
    );
    let key_vault = format!("https://127.0.0.1:{}", server.https);
    let aws = Aws::start(scene, &token).await?;
    let command = format!("cat \"{}\" | head -n 1", file.display());
    let stored = json!({"project": "prod-1", "secret": "monsys-enrolment"});
    let kept = json!({"vault": key_vault, "secret": "monsys-enrolment"});
    let parameter = json!({"name": "/monsys/enrolment", "region": "eu-west-1"});
    let managed = json!({"secret_id": "monsys/enrolment", "region": "eu-west-1"});
    for (name, from, environment) in [
        ("file", json!(file), String::new()),
        ("command", json!(command), String::new()),
        ("aws_ssm_parameter", parameter, aws.environment()),
        ("aws_secretsmanager", managed, aws.environment()),
        ("gcp_secret", stored, google),
        ("azure_key_vault", kept, azure),
    ] {
        count.check(name, enrols(scene, name, &from, &environment, &token).await);
    }
    Ok(())
}

/// The token is on the host only once the host has asked for it, and not in the user data.
async fn enrols(
    scene: &Scene,
    name: &str,
    from: &Value,
    environment: &str,
    token: &str,
) -> Result<()> {
    let host = scene.host(&format!("token-from-{name}"))?;
    let more = json!({"monsys_token": null, "monsys_token_from": {name: from}});
    let inputs = scene.inputs("", &host.install_url, &more)?;
    let script = scene
        .render(inputs)
        .await?
        .install_script
        .unwrap_or_default();
    if script.contains(token) {
        return Err(Stop::failed("the script holds the token"));
    }
    let path = scene.folder.path().join("reference");
    fs::write(&path, script).context(|| "the script".to_owned())?;
    let ca = scene.hub.ca_file.clone().unwrap_or_default();
    let run = format!(
        "CURL_CA_BUNDLE={} {environment} sh {}",
        ca.display(),
        path.display()
    );
    let boot = scene.boot("#cloud-config\n{}\n", &run).await?;
    let ok = host.agent_toml(&scene.hub).is_ok() && boot.left.is_empty();
    expect(ok, &boot, "not enrolled")
}
