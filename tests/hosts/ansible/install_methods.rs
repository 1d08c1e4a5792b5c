//! Other installation methods: the hub as a mirror, a package, molecule, and the documented play.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::controller::TOKEN;
use super::{expect_no_trace_anywhere, scene, settings, tags, with};
use crate::common::TestHub;
use crate::disk::Disk;
use crate::lan::Lan;
use crate::one_liner::{expect_in_service, trust};

fn role(hub: &TestHub) -> String {
    hub.agents()[0]["role"].as_str().unwrap().to_owned()
}

#[test]
fn the_hub_serves_the_release_and_the_proxy_password_stays_secret() {
    const PASSWORD: &str = "pa55word-of-the-proxy";
    let lan = Lan::new();
    let hub = lan.hub();
    let token = hub.token();
    let disk = Disk::debian("bookworm", "web-1");
    let (host, controller) = scene(&lan, &disk, &["web"]);
    controller.secrets.borrow_mut().push(PASSWORD.into());
    let mut settings = with(settings(&hub), "monsys_agent_method", "mirror");
    settings["monsys_agent_mirror_url"] = json!(hub.url());
    settings["monsys_agent_binary"] = json!("");
    // The proxy does not exist: NO_PROXY bypasses it.
    settings["monsys_agent_proxy"] = json!(format!("http://ops:{PASSWORD}@192.0.2.200:3128"));
    settings["monsys_agent_no_proxy"] = json!("192.0.2.1");

    let checked = controller
        .role(&token, &settings, &["--check"])
        .expect_success();
    let first = controller.role(&token, &settings, &[]).expect_success();
    assert_eq!(first.changed("web-1"), checked.changed("web-1"));
    let _ = first
        .expect_no_secret(&token, "install.sh")
        .expect_no_secret(PASSWORD, "install.sh");
    expect_in_service(&hub, &host);
    let (found, _) = host.files_with(PASSWORD);
    assert_eq!(found, [Path::new("etc/monsys/agent.toml")]);
    expect_no_trace_anywhere(&controller, &host, &token);

    let again = controller.role("", &settings, &[]).expect_success();
    assert_eq!(again.changed("web-1"), 0, "{}", again.output);
    hub.expect_one_slot();
}

#[test]
fn the_package_is_installed_and_removed() {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = hub.token();
    let disk = Disk::debian("bookworm", "web-1");
    let (host, controller) = scene(&lan, &disk, &["web"]);
    let package = crate::prepared::dist().join(concat!(
        "monsys-agent_",
        env!("CARGO_PKG_VERSION"),
        "-1_amd64.deb"
    ));
    let mut settings = with(settings(&hub), "monsys_agent_method", "package");
    settings["monsys_agent_package"] = json!(package);

    let checked = controller
        .role(&token, &settings, &["--check"])
        .expect_success();
    let first = controller.role(&token, &settings, &[]).expect_success();
    assert_eq!(first.changed("web-1"), checked.changed("web-1"));
    let _ = first.expect_no_secret(&token, "enrol --output json");
    expect_in_service(&hub, &host);
    hub.expect_one_slot();
    expect_no_trace_anywhere(&controller, &host, &token);
    let again = controller.role("", &settings, &[]).expect_success();
    assert_eq!(again.changed("web-1"), 0, "{}", again.output);

    let mut gone = with(settings, "monsys_agent_state", "absent");
    gone["monsys_agent_purge"] = json!(true);
    controller.role("", &gone, &[]).expect_success();
    for path in ["usr/bin/monsys-agent", "etc/monsys", "var/lib/monsys"] {
        assert!(!disk.exists(path), "{path}");
    }
    assert_eq!(hub.agents().len(), 0);
}

#[test]
fn the_documented_play_enrols() {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = hub.token();
    let disk = Disk::debian("bookworm", "web-1");
    trust(&hub, &disk);
    let (host, controller) = scene(&lan, &disk, &["shard-7"]);
    controller.set("web-1", "ansible_role", json!("db"));
    let play = include_str!("seed.yml").replace("https://get.monsys.ai", &hub.url());
    // A stand-in for the vault.
    let vault = json!({"monsys_token": format!("{{{{ lookup('env', '{TOKEN}') }}}}")}).to_string();
    for changed in [1, 0] {
        let played = controller.play(&token, &play, &["--extra-vars", &vault]);
        assert_eq!(played.expect_success().changed("web-1"), changed);
    }
    expect_in_service(&hub, &host);
    hub.expect_one_slot();
    assert_eq!(tags(&hub), json!(["prod", "eu-west", "web", "shard-7"]));
    assert_eq!(role(&hub), "db");
}

#[test]
fn molecule_runs_its_scenario() {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = hub.token();
    let disk = Disk::debian("bookworm", "web-1");
    let (host, controller) = scene(&lan, &disk, &["web"]);
    for (name, value) in settings(&hub).as_object().unwrap() {
        controller.set("web-1", name, value.clone());
    }
    let inventory = controller.inventory();
    let mut molecule = controller.command("molecule");
    molecule
        .args(["test", "--scenario-name=default"])
        .env("MONSYS_INVENTORY", inventory)
        .env("MONSYS_TOKEN", &token)
        .current_dir(controller.clone_of_collection());
    let played = controller.run(&token, molecule).expect_success();
    for step in ["check", "converge", "idempotence", "verify", "cleanup"] {
        assert!(played.output.contains(step), "{step}\n{}", played.output);
    }
    let _ = played.expect_no_secret(&token, "enrol --output json");
    // The scenario has enrolled the host and removed it again.
    assert_eq!(hub.spent(), 1);
    assert_eq!(hub.agents().len(), 0);
    assert!(!disk.exists("usr/local/bin/monsys-agent"));
    assert!(fs::read_dir(disk.path("etc/monsys")).is_err());
    expect_no_trace_anywhere(&controller, &host, &token);
}
