//! The enrolment token in cloud-init's copies of user data: removed after the hub has confirmed.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::common::{TestHost, TestHub};

const USER_DATA: &str = "var/lib/cloud/instances/i-1/user-data.txt";
const LOG: &str = "var/log/cloud-init-output.log";

/// Makes a host whose user data contained the token.
fn host_with(token: &str) -> TestHost {
    let host = TestHost::new();
    let user_data = format!("#cloud-config\nruncmd:\n- [sh, -c, 'MONSYS_TOKEN={token} sh']\n");
    host.write_file(USER_DATA, &user_data);
    host.write_file("var/lib/cloud/instances/i-1/scripts/runcmd", &user_data);
    host.write_file(
        "run/cloud-init/instance-data-sensitive.json",
        &BASE64_STANDARD.encode(&user_data),
    );
    host.write_file(LOG, &format!("+ MONSYS_TOKEN={token}\n"));
    // Foreign files stay, also if a link of cloud-init leads to them.
    host.write_file("root/notes", token);
    host.write_file("var/log/syslog", token);
    symlink(host.path("root/notes"), host.path("var/lib/cloud/notes")).unwrap();
    host
}

/// Returns the files that contain the token, plain or encoded.
fn files_with_token(host: &TestHost, token: &str) -> Vec<String> {
    let root = host.path("");
    let files = host.files("").into_iter().filter(|(path, bytes)| {
        let text = match path.extension() {
            Some(json) if json == "json" => BASE64_STANDARD.decode(bytes).unwrap_or_default(),
            _ => bytes.clone(),
        };
        let has_token = text
            .windows(token.len())
            .any(|part| part == token.as_bytes());
        has_token && !path.is_symlink()
    });
    let relative = files.map(|(path, _)| path.strip_prefix(&root).unwrap().to_owned());
    relative.map(|path| path.display().to_string()).collect()
}

#[test]
fn after_the_confirmation_no_cloud_init_file_contains_the_token() {
    let hub = TestHub::new();
    let token = hub.token();
    let host = host_with(&token);
    let before = fs::read(host.path(USER_DATA)).unwrap();
    let more = ["--scrub-cloud-init", "yes", "--output", "json"];
    let run = host.enrol_with(&hub, &token, &more).run().expect(0);
    assert_eq!(
        files_with_token(&host, &token),
        ["root/notes", "var/log/syslog"]
    );
    assert_eq!(run.json()["scrubbed"].as_array().unwrap().len(), 4);
    let after = fs::read_to_string(host.path(USER_DATA)).unwrap();
    assert_eq!(after.len(), before.len());
    assert!(after.contains("MONSYS_TOKEN=enrl_xxxxx") && after.ends_with("sh']\n"));
    for path in [USER_DATA, LOG] {
        assert!(run.stderr.contains(path), "{}", run.stderr);
    }
    hub.expect_one_slot();
}

#[test]
fn a_run_on_an_enrolled_host_completes_an_interrupted_scrub() {
    let hub = TestHub::new();
    let token = hub.token();
    let host = host_with(&token);
    host.enrol_with(&hub, &token, &[]).run().expect(0);
    assert_eq!(
        files_with_token(&host, &token).len(),
        6,
        "auto, and not run by cloud-init"
    );
    let again = host
        .enrol_with(&hub, &token, &[])
        .env("MONSYS_SCRUB_CLOUD_INIT", "1");
    let again = again.run().expect(0);
    let parts = [
        "is enrolled at",
        "the token, removed from 4 files of cloud-init",
    ];
    assert!(
        parts.iter().all(|part| again.stdout.contains(part)),
        "{}",
        again.stdout
    );
    assert_eq!(files_with_token(&host, &token).len(), 2);
    hub.expect_one_slot();
}

#[test]
fn nothing_is_scrubbed_before_the_hub_has_confirmed() {
    let hub = TestHub::new();
    let token = format!("{}x", hub.token());
    let host = host_with(&token);
    let more = ["--scrub-cloud-init", "yes"];
    host.enrol_with(&hub, &token, &more).run().expect(77);
    assert_eq!(files_with_token(&host, &token).len(), 6);
}

/// A log of 65 MiB without a token is searched. A file with the token that cannot be written is named, and the
/// run exits with 74 after everything else is done.
#[test]
fn a_file_that_cannot_be_scrubbed_is_named_and_the_exit_code_is_74() {
    let hub = TestHub::new();
    let token = hub.token();
    let host = host_with(&token);
    let large = fs::File::create(host.path("var/log/cloud-init.log")).unwrap();
    large.set_len(65 << 20).unwrap();
    let packed = "var/lib/cloud/instances/i-1/user-data.txt.gz";
    fs::write(host.path(packed), gzip(&(noise() + &token))).unwrap();
    fs::hard_link(host.path(packed), host.path("var/lib/cloud/second")).unwrap();
    let more = ["--scrub-cloud-init", "yes", "--output", "json"];
    let run = host.enrol_with(&hub, &token, &more).run().expect(74);
    let run = run.expect_stderr(&[
        "enrolled, but the enrolment token may still",
        packed,
        "hard link",
    ]);
    let json = run.json();
    assert_eq!(json["result"], "enrolled");
    assert_eq!(json["error"]["id"], "token-left-behind");
    assert_eq!(json["scrubbed"].as_array().unwrap().len(), 4);
    let entries = json["left"].as_array().unwrap();
    assert_eq!(entries.len(), 1, "one file, two names: {entries:?}");
    assert!(
        entries
            .iter()
            .all(|entries| entries["cause"].as_str().unwrap().contains("hard link"))
    );
    assert_eq!(
        files_with_token(&host, &token),
        ["root/notes", "var/log/syslog"]
    );
    hub.expect_one_slot();

    fs::remove_file(host.path("var/lib/cloud/second")).unwrap();
    let again = host.enrol_with(&hub, &token, &more).run().expect(0);
    assert_eq!(again.json()["scrubbed"].as_array().unwrap().len(), 1);
    hub.expect_one_slot();
}

/// Returns text that compresses badly, longer than the limit of recompression inside a document.
fn noise() -> String {
    let mut random = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| random.alphanumeric())
        .take(1_200_000)
        .collect()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Places that the agent must not edit are reported with the command that searches them.
#[test]
fn places_that_are_not_searched_are_reported() {
    let hub = TestHub::new();
    let token = hub.token();
    let host = host_with(&token);
    fs::create_dir_all(host.path("var/log/journal")).unwrap();
    let more = ["--scrub-cloud-init", "yes", "--output", "json"];
    let run = host.enrol_with(&hub, &token, &more).run().expect(0);
    let run = run.expect_stderr(&["the journal is not searched for the token", "journalctl"]);
    let json = run.json();
    let places = json["unsearched"].as_array().unwrap();
    let places: Vec<&str> = places
        .iter()
        .map(|place| place["place"].as_str().unwrap())
        .collect();
    assert_eq!(places, ["journal", "syslog", "console"]);
}

/// Copies that a second boot wrote are scrubbed before the service starts. The token is found by its form, since
/// the agent does not have it any more.
#[test]
fn copies_that_were_written_again_are_scrubbed_at_the_next_start() {
    let hub = TestHub::new();
    let token = hub.token();
    let host = host_with(&token);
    let more = ["--scrub-cloud-init", "yes"];
    host.enrol_with(&hub, &token, &more).run().expect(0);
    let user_data = format!("#cloud-config\nruncmd: [MONSYS_TOKEN={token}]\n");
    host.write_file(USER_DATA, &user_data);
    host.agent(&["prepare"]).run().expect(0);
    assert_eq!(
        files_with_token(&host, &token),
        ["root/notes", "var/log/syslog"]
    );
    let after = fs::read_to_string(host.path(USER_DATA)).unwrap();
    assert_eq!(after.len(), user_data.len());
    let record = fs::read_to_string(host.path("var/lib/monsys/.monsys-scrub.json")).unwrap();
    assert!(!record.contains(&token) && record.contains("\"tokens\":true"));
    host.agent(&["unenrol"]).run().expect(0);
    assert!(!host.path("var/lib/monsys/.monsys-scrub.json").exists());
}

/// Without the setting, the user data of a host is not changed.
#[test]
fn nothing_is_scrubbed_at_a_start_without_the_setting() {
    let hub = TestHub::new();
    let token = hub.token();
    let host = host_with(&token);
    host.enrol_with(&hub, &token, &[]).run().expect(0);
    host.agent(&["prepare"]).run().expect(0);
    assert_eq!(files_with_token(&host, &token).len(), 6);
}
