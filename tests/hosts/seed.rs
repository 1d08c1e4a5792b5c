//! The snippets of the mass-provisioning document as they stand. Only the addresses are the
//! test's: the hub's for the download, and one on the test's own network for the metadata.

use std::io::{Read, Write};
use std::net::TcpListener;

use crate::cloud_init::{expect_done, seed};
use crate::disk::Disk;
use crate::lan::Lan;
use crate::one_liner::{expect_in_service, expect_no_trace, trust};

const CLOUD_INIT: &str = r#"#cloud-config
runcmd:
  - bash -c '
      export MONSYS_TOKEN="TOKEN";
      export MONSYS_TAGS="$(curl -fsS http://METADATA/latest/meta-data/placement/availability-zone)";
      curl -fsSL https://MIRROR/install.sh | sudo -E bash
    '
"#;

/// Says `eu-west-1a` to whoever asks for the availability zone; returns where.
fn metadata() -> String {
    let listener = TcpListener::bind("192.0.2.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            assert!(
                request[..length]
                    .starts_with(b"GET /latest/meta-data/placement/availability-zone ")
            );
            stream
                .write_all(
                    b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\nconnection: close\r\n\r\neu-west-1a",
                )
                .unwrap();
        }
    });
    address
}

#[test]
fn the_cloud_init_snippet_ends_in_an_enrolled_host_without_a_trace() {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = hub.token();
    let disk = Disk::with_cloud_init("bookworm", "web-1");
    trust(&hub, &disk);
    let user_data = CLOUD_INIT
        .replace("TOKEN\"", &format!("{token}\""))
        .replace("METADATA", &metadata())
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
