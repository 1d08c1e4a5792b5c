//! The role's download, with each downloader.

use std::fmt::Write as _;
use std::fs;

use ring::digest::{SHA256, digest};
use serde_json::json;

use super::{prepare, role};
use crate::machine::{Machine, run};
use crate::release::Release;
use crate::script::{
    CA, CURLRC, WGETRC, http_mirror, mirror, only_busybox_wget, only_old_busybox_wget,
};

#[test]
#[ignore = "needs root: mounts an overlay"]
fn the_fetch_follows_no_redirect_from_https_to_http() {
    let release = Release::new();
    for gone in ["wget", "curl", "both but BusyBox's"] {
        let machine = Machine::new();
        let hub = mirror(&release, &machine);
        let plain = http_mirror(&release);
        match gone {
            "curl" | "wget" => machine.remove_program(gone),
            _ => only_busybox_wget(&machine),
        }
        let url = format!("{}/install.sh", hub.url());
        let fetch = || role(&machine, false, "fetch.sh", &[&url, "/srv/it", "", CA]);
        if gone.starts_with("both") {
            fetch()
                .expect(69)
                .expect_stderr(&["BusyBox wget verifies no certificate"]);
            continue;
        }
        fetch().expect(0);
        hub.fault(json!({
            "route": "install",
            "times": 9,
            "status": 302,
            "location": format!("{}/install.sh", plain.url()),
        }));
        fs::remove_file(machine.path("srv/it")).unwrap();
        let run = fetch();
        println!("without {gone}: {} {}", run.code, run.stderr);
        assert_ne!(run.code, 0);
        let it = fs::read(machine.path("srv/it")).unwrap_or_default();
        assert!(it.is_empty(), "it was fetched without TLS");
        // An http URL is fetched over http.
        let url = format!("{}/install.sh", plain.url());
        role(&machine, false, "fetch.sh", &[&url, "/srv/it", "", ""]).expect(0);
    }
    let machine = Machine::new();
    run(machine.command(&["mkfifo", "/srv/pipe"])).expect(0);
    let mut command = prepare(&machine, false, "fetch.sh");
    command.args(["file:///srv/pipe", "/srv/it", "", ""]);
    run(command)
        .expect(69)
        .expect_stderr(&["is not a regular file"]);
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn the_settings_of_curl_and_wget_in_the_home_of_root_do_not_apply() {
    let release = Release::new();
    for gone in ["wget", "curl"] {
        let machine = Machine::new();
        let hub = mirror(&release, &machine);
        machine.remove_program(gone);
        machine.write_file("root/.curlrc", CURLRC);
        machine.write_file("root/.wgetrc", WGETRC);
        let url = format!("{}/install.sh", hub.url());
        let fetch = || {
            let mut fetch = prepare(&machine, false, "fetch.sh");
            fetch.env("HOME", "/root").args([&url, "/srv/it", "", CA]);
            run(fetch)
        };
        println!("without {gone}");
        fetch().expect(0);
        let it = fs::read(machine.path("srv/it")).unwrap();
        assert!(it.starts_with(b"#!/bin/sh"));
        // The settings of the machine apply.
        machine.write_file("etc/wgetrc", WGETRC);
        assert_eq!(fetch().code == 0, gone == "wget");
    }
}

/// Prepares the downloaders of a machine.
type Lay = fn(&Machine);

/// Over http, and over https with a checksum, which verifies the download.
#[test]
#[ignore = "needs root: mounts an overlay"]
fn the_fetch_uses_options_that_every_wget_knows() {
    let release = Release::new();
    let plain = http_mirror(&release);
    let url = format!("{}/install.sh", plain.url());
    let tools: [(&str, Lay); 3] = [
        ("BusyBox", |machine| only_busybox_wget(machine)),
        ("an old BusyBox", |machine| only_old_busybox_wget(machine)),
        ("GNU", |machine| machine.remove_program("curl")),
    ];
    for (what, lay) in tools {
        let machine = Machine::new();
        lay(&machine);
        println!("wget of {what}");
        role(&machine, false, "fetch.sh", &[&url, "/srv/it", "", ""]).expect(0);
        let it = fs::read(machine.path("srv/it")).unwrap();
        assert!(it.starts_with(b"#!/bin/sh"));
        let mut sum = String::new();
        for byte in digest(&SHA256, &it).as_ref() {
            write!(sum, "{byte:02x}").unwrap();
        }
        role(&machine, false, "fetch.sh", &[&url, "/srv/it", &sum, ""]).expect(0);
        let wrong = sum.replace(|_| true, "0");
        role(&machine, false, "fetch.sh", &[&url, "/srv/it", &wrong, ""])
            .expect(76)
            .expect_stderr(&["the SHA-256 of", "monsys_agent_checksum is"]);
    }
    // The checksum is what makes a download without a verified certificate safe.
    let machine = Machine::new();
    only_old_busybox_wget(&machine);
    role(
        &machine,
        false,
        "fetch.sh",
        &["https://192.0.2.1/install.sh", "/srv/it", "", ""],
    )
    .expect(69)
    .expect_stderr(&["BusyBox wget verifies no certificate"]);
    machine.remove_program("wget");
    role(&machine, false, "fetch.sh", &[&url, "/srv/it", "", ""])
        .expect(69)
        .expect_stderr(&["neither curl nor wget is installed"]);
}
