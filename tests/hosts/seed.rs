//! The unchanged snippets of the mass-provisioning document. Only the addresses are the test's: the hub's
//! for the download, and one on the test's network for the metadata.

use crate::cloud_init::{expect_done, seed};
use crate::disk::Disk;
use crate::lan::Lan;
use crate::one_liner::{expect_in_service, expect_no_trace, trust};
use crate::web;

const CLOUD_INIT: &str = r#"#cloud-config
runcmd:
  - bash -c '
      export MONSYS_TOKEN="TOKEN";
      export MONSYS_TAGS="$(curl -fsS METADATA/latest/meta-data/placement/availability-zone)";
      curl -fsSL https://MIRROR/install.sh | sudo -E bash
    '
"#;

#[test]
fn the_cloud_init_snippet_enrols_a_host_and_leaves_no_token() {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = hub.token();
    let disk = Disk::with_cloud_init("bookworm", "web-1");
    trust(&hub, &disk);
    let user_data = CLOUD_INIT
        .replace("TOKEN\"", &format!("{token}\""))
        .replace("METADATA", &web::serve_once("eu-west-1a"))
        .replace("MIRROR", "192.0.2.1:8443");
    seed(&disk, &user_data);
    let host = lan.boot(&disk);
    expect_done(&host);
    expect_in_service(&hub, &host);
    hub.expect_one_slot();
    let tags = serde_json::json!(["prod", "eu-west", "web", "eu-west-1a"]);
    assert_eq!(hub.agents()[0]["tags"], tags);
    expect_no_trace(&host, &token);
}
