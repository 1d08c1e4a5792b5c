//! Terraform: user data from an example of the module, booted on many hosts at once.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cloud_init::{expect_done, seed};
use crate::common::TestHub;
use crate::disk::Disk;
use crate::lan::Lan;
use crate::one_liner::{expect_in_service, expect_no_trace};
use crate::watch::Watch;

/// Number of instances that are rendered, and number of those that are booted.
const RENDERED: usize = 50;
const BOOTED: usize = 10;

/// Renders the user data of 50 instances with Terraform from `examples/aws-count`, with the address and the CA
/// of this hub added.
pub(crate) fn render(hub: &TestHub, token: &str) -> Vec<String> {
    let folder = TempDir::new().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("terraform");
    let copied = Command::new("cp")
        .arg("-r")
        .args([from.as_path(), &folder.path().join("terraform")])
        .status()
        .unwrap();
    assert!(copied.success());
    let example = folder.path().join("terraform/examples/aws-count");
    // Its resources need a provider, and a provider needs a network.
    fs::remove_file(example.join("instances.tf")).unwrap();
    fs::write(folder.path().join("empty.tfrc"), "").unwrap();
    fs::copy(hub.ca_file().unwrap(), example.join("hub-ca.pem")).unwrap();
    let main = fs::read_to_string(example.join("main.tf")).unwrap();
    let url = hub.url();
    let place = format!(
        "\n  hub_url      = \"{url}\"\n  install_url  = \"{url}/install.sh\"\n  download_url = \"{url}/dist\"\n  ca_pem       = file(\"${{path.module}}/hub-ca.pem\")\n"
    );
    let main = main.replacen(
        "  count  = var.instances\n",
        &format!("  count  = var.instances\n{place}"),
        1,
    );
    assert!(main.contains(&url));
    fs::write(example.join("main.tf"), main).unwrap();
    let terraform = |arguments: &[&str]| {
        let output = Command::new("terraform")
            .args(arguments)
            .current_dir(&example)
            .env("CHECKPOINT_DISABLE", "1")
            .env("TF_CLI_CONFIG_FILE", folder.path().join("empty.tfrc"))
            .env("TF_IN_AUTOMATION", "1")
            .env("TF_VAR_monsys_enrolment_token", token)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    };
    terraform(&["init", "-input=false"]);
    terraform(&["apply", "-input=false", "-auto-approve"]);
    let user_data: Value =
        serde_json::from_str(&terraform(&["output", "-json", "user_data"])).unwrap();
    let documents = user_data.as_array().unwrap().iter();
    documents
        .map(|document| document.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn terraform_enrols_many_hosts_with_one_token() {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = hub.token();
    let documents = render(&hub, &token);
    assert_eq!(documents.len(), RENDERED);
    let disks: Vec<Disk> = (0..BOOTED)
        .map(|number| {
            let disk = Disk::with_cloud_init("bookworm", &format!("web-{number}"));
            seed(&disk, &documents[number]);
            disk
        })
        .collect();

    let watch = Watch::start();
    let starting: Vec<_> = disks.iter().map(|disk| lan.start(disk)).collect();
    let hosts: Vec<_> = starting.into_iter().map(|host| host.up()).collect();
    for host in &hosts {
        expect_done(host);
        expect_in_service(&hub, host);
    }
    watch.end().expect_no_secret(&token, "monsys-agent run");

    let agents = hub.agents();
    assert_eq!((agents.len(), hub.spent()), (BOOTED, BOOTED as u64));
    assert_eq!(hub.tokens().len(), 1);
    for agent in &agents {
        let name = agent["facts"]["hostname"].as_str().unwrap();
        let number = name.strip_prefix("web-").unwrap();
        let tags = json!(["prod", "eu-west", "web", format!("shard-{number}")]);
        assert_eq!(agent["tags"], tags, "{name}");
        assert_eq!(agent["role"], "web");
    }
    let read: usize = hosts.iter().map(|host| expect_no_trace(host, &token)).sum();
    println!("{BOOTED} hosts: {read} files read, none contains the token");
}
