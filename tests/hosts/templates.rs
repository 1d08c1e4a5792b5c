//! Each template of `cloud-init/`, booted with only the user's values replaced.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::cloud_init::{expect_done, seed};
use crate::common::TestHub;
use crate::disk::Disk;
use crate::lan::Lan;
use crate::machine::Machine;
use crate::one_liner::{expect_in_service, expect_no_trace, trust};
use crate::web;

/// The commands by which the templates get the token.
const AWS: &str = "aws ssm get-parameter --region 'eu-west-1' --name '/monsys/enrolment' --with-decryption --query Parameter.Value --output text";
const VAULT: &str = "vault kv get -field=token secret/monsys/enrolment";

/// Returns the template with this hub and with these replacements.
pub(crate) fn template(name: &str, hub: &TestHub, replaced: &[(&str, &str)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("cloud-init")
        .join(name);
    let url = hub.url();
    let mut text = fs::read_to_string(path)
        .unwrap()
        .replace(
            "https://get.monsys.ai/install.sh",
            &format!("{url}/install.sh"),
        )
        .replace("https://hub.example.com", &url);
    for (from, to) in replaced {
        assert!(text.contains(from), "{name} has no {from}");
        text = text.replace(from, to);
    }
    text
}

/// Returns the releases whose cloud-init boots a template: Debian 12 and another one, or all of them in a long run.
fn releases(other: &'static str) -> Vec<&'static str> {
    match std::env::var_os("MONSYS_TEST_MATRIX") {
        Some(_) => vec!["bookworm", "trixie", "forky"],
        None => vec!["bookworm", other],
    }
}

fn tags(hub: &TestHub) -> serde_json::Value {
    hub.agents()[0]["tags"].clone()
}

/// Checks that a host booted with the template is enrolled, and that the token is nowhere on it.
#[track_caller]
fn joined(hub: &TestHub, host: &Machine<'_>, token: &str, tag: &str) {
    expect_done(host);
    expect_in_service(hub, host);
    hub.expect_one_slot();
    assert_eq!(tags(hub), json!(["prod", "eu-west", "web", tag]));
    expect_no_trace(host, token);
}

#[test]
fn a_token_in_the_user_data_enrols_and_is_removed() {
    for release in releases("trixie") {
        plain(release);
    }
}

fn plain(release: &str) {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = hub.token();
    let disk = Disk::with_cloud_init(release, "web-1");
    trust(&hub, &disk);
    seed(
        &disk,
        &template("plain.yaml", &hub, &[("enrl_REPLACE-THIS", &token)]),
    );
    joined(&hub, &lan.boot(&disk), &token, "shard-1");
}

#[test]
fn a_missing_zone_adds_no_tag() {
    for release in releases("forky") {
        availability_zone(release);
    }
}

fn availability_zone(release: &str) {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = hub.token();
    let disk = Disk::with_cloud_init(release, "web-1");
    trust(&hub, &disk);
    let replaced = [("enrl_REPLACE-THIS", token.as_str())];
    seed(&disk, &template("availability-zone.yaml", &hub, &replaced));
    joined(&hub, &lan.boot(&disk), &token, "asg");
}

#[test]
fn a_multipart_user_data_runs_all_its_parts() {
    for release in releases("trixie") {
        compose(release);
    }
}

fn compose(release: &str) {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = hub.token();
    let disk = Disk::with_cloud_init(release, "web-1");
    trust(&hub, &disk);
    seed(
        &disk,
        &template("compose.yaml", &hub, &[("enrl_REPLACE-THIS", &token)]),
    );
    let host = lan.boot(&disk);
    joined(&hub, &host, &token, "shard-1");
    for file in ["run/before", "run/after"] {
        assert!(host.path(file).exists(), "no {file}");
    }
    assert!(disk.read("etc/motd").contains("yours, before"));
}

#[test]
fn a_token_by_reference_is_in_no_user_data_or_metadata() {
    for release in releases("forky") {
        secret_by_reference(release);
    }
}

fn secret_by_reference(release: &str) {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = hub.token();
    let disk = Disk::with_cloud_init(release, "web-1");
    trust(&hub, &disk);
    // A stand-in for the cloud's own tool.
    let command = format!("curl -fsS {}", web::serve_once(&token));
    let text = template("secret-by-reference.yaml", &hub, &[(AWS, &command)]);
    assert!(!text.contains("enrl_"));
    seed(&disk, &text);
    joined(&hub, &lan.boot(&disk), &token, "shard-1");
}

#[test]
fn each_host_of_a_golden_image_enrols_separately_at_first_boot() {
    for release in releases("trixie") {
        golden_image(release);
    }
}

fn golden_image(release: &str) {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = hub.token();
    let image = Disk::with_cloud_init(release, "image");
    trust(&hub, &image);
    let command = format!("curl -fsS {}", web::serve_once(&token));
    seed(
        &image,
        &template("golden-image.yaml", &hub, &[(VAULT, &command)]),
    );
    let host = lan.boot(&image);
    expect_done(&host);
    assert_eq!((hub.agents().len(), hub.spent()), (0, 0));
    // The form of every cloud-init: `--machine-id` came with 22.3.
    let text = template("golden-image.yaml", &hub, &[]);
    let clean = "cloud-init clean --logs && truncate -s 0 /etc/machine-id";
    assert!(text.contains(&format!("\n# {clean}\n")));
    host.run_ok(clean);
    host.power_off();

    let copies: Vec<Disk> = (1..=2)
        .map(|number| {
            let disk = image.copy(&format!("web-{number}"));
            seed(&disk, "#cloud-config\n{}\n");
            disk
        })
        .collect();
    for disk in &copies {
        let host = lan.boot(disk);
        expect_in_service(&hub, &host);
        expect_no_trace(&host, &token);
    }
    assert_eq!((hub.agents().len(), hub.spent()), (2, 2));
    let key = |disk: &Disk| fs::read(disk.path("var/lib/monsys/agent-signing.key")).unwrap();
    assert_ne!(key(&copies[0]), key(&copies[1]));
}
