//! The enrolment token in what cloud-init keeps of user data: gone once the hub has confirmed.

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

/// A host whose user data held the token.
fn host_with(token: &str) -> TestHost {
    let host = TestHost::new();
    let user_data = format!("#cloud-config\nruncmd:\n- [sh, -c, 'MONSYS_TOKEN={token} sh']\n");
    host.lay(USER_DATA, &user_data);
    host.lay("var/lib/cloud/instances/i-1/scripts/runcmd", &user_data);
    host.lay(
        "run/cloud-init/instance-data-sensitive.json",
        &BASE64_STANDARD.encode(&user_data),
    );
    host.lay(LOG, &format!("+ MONSYS_TOKEN={token}\n"));
    // What is not cloud-init's stays, also when it is reached from there.
    host.lay("root/notes", token);
    host.lay("var/log/syslog", token);
    symlink(host.path("root/notes"), host.path("var/lib/cloud/notes")).unwrap();
    host
}

/// The files that hold the token, plain or encoded.
fn held(host: &TestHost, token: &str) -> Vec<String> {
    let root = host.path("");
    let files = host.files("").into_iter().filter(|(path, bytes)| {
        let text = match path.extension() {
            Some(json) if json == "json" => BASE64_STANDARD.decode(bytes).unwrap_or_default(),
            _ => bytes.clone(),
        };
        let holds = text
            .windows(token.len())
            .any(|part| part == token.as_bytes());
        holds && !path.is_symlink()
    });
    let relative = files.map(|(path, _)| path.strip_prefix(&root).unwrap().to_owned());
    relative.map(|path| path.display().to_string()).collect()
}

#[test]
fn after_the_confirmation_no_file_of_cloud_init_holds_the_token() {
    let hub = TestHub::new();
    let token = hub.token();
    let host = host_with(&token);
    let before = fs::read(host.path(USER_DATA)).unwrap();
    let more = ["--scrub-cloud-init", "yes", "--output", "json"];
    let run = host.enrol_with(&hub, &token, &more).run().expect(0);
    assert_eq!(held(&host, &token), ["root/notes", "var/log/syslog"]);
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
fn a_run_that_finds_the_host_enrolled_scrubs_what_a_killed_one_left() {
    let hub = TestHub::new();
    let token = hub.token();
    let host = host_with(&token);
    host.enrol_with(&hub, &token, &[]).run().expect(0);
    assert_eq!(
        held(&host, &token).len(),
        6,
        "auto, and not run by cloud-init"
    );
    let again = host
        .enrol_with(&hub, &token, &[])
        .env("MONSYS_SCRUB_CLOUD_INIT", "1");
    let again = again.run().expect(0);
    let told = ["already", "the token, from 4 files of cloud-init"];
    assert!(
        told.iter().all(|part| again.stdout.contains(part)),
        "{}",
        again.stdout
    );
    assert_eq!(held(&host, &token).len(), 2);
    hub.expect_one_slot();
}

#[test]
fn nothing_is_scrubbed_before_the_hub_has_confirmed() {
    let hub = TestHub::new();
    let token = format!("{}x", hub.token());
    let host = host_with(&token);
    let more = ["--scrub-cloud-init", "yes"];
    host.enrol_with(&hub, &token, &more).run().expect(77);
    assert_eq!(held(&host, &token).len(), 6);
}

/// A log of 65 MiB without a token is searched, and a file that holds one and cannot be written is named:
/// the run ends with 74 when all else is done.
#[test]
fn a_file_that_cannot_be_scrubbed_is_named_and_the_run_ends_with_74() {
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
    let run = run.says(&[
        "enrolled, but the enrolment token may still",
        packed,
        "hard link",
    ]);
    let json = run.json();
    assert_eq!(json["result"], "enrolled");
    assert_eq!(json["error"]["id"], "token-left-behind");
    assert_eq!(json["scrubbed"].as_array().unwrap().len(), 4);
    let left = json["left"].as_array().unwrap();
    assert_eq!(left.len(), 1, "one file, two names: {left:?}");
    assert!(
        left.iter()
            .all(|left| left["cause"].as_str().unwrap().contains("hard link"))
    );
    assert_eq!(held(&host, &token), ["root/notes", "var/log/syslog"]);
    hub.expect_one_slot();

    fs::remove_file(host.path("var/lib/cloud/second")).unwrap();
    let again = host.enrol_with(&hub, &token, &more).run().expect(0);
    assert_eq!(again.json()["scrubbed"].as_array().unwrap().len(), 1);
    hub.expect_one_slot();
}

/// Text that packs badly, and more of it than is packed anew inside of a document.
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

/// What is not ours to edit is told, with the command that looks there.
#[test]
fn places_that_are_not_searched_are_told() {
    let hub = TestHub::new();
    let token = hub.token();
    let host = host_with(&token);
    fs::create_dir_all(host.path("var/log/journal")).unwrap();
    let more = ["--scrub-cloud-init", "yes", "--output", "json"];
    let run = host.enrol_with(&hub, &token, &more).run().expect(0);
    let run = run.says(&["the journal is not searched for the token", "journalctl"]);
    let json = run.json();
    let places = json["unsearched"].as_array().unwrap();
    let places: Vec<&str> = places
        .iter()
        .map(|place| place["place"].as_str().unwrap())
        .collect();
    assert_eq!(places, ["journal", "syslog", "console"]);
}

/// The copies that a second boot has written anew go before the service starts, by the form of a token:
/// nobody has the secret any more.
#[test]
fn copies_that_were_written_anew_are_scrubbed_at_the_next_start() {
    let hub = TestHub::new();
    let token = hub.token();
    let host = host_with(&token);
    let more = ["--scrub-cloud-init", "yes"];
    host.enrol_with(&hub, &token, &more).run().expect(0);
    let user_data = format!("#cloud-config\nruncmd: [MONSYS_TOKEN={token}]\n");
    host.lay(USER_DATA, &user_data);
    host.agent(&["prepare"]).run().expect(0);
    assert_eq!(held(&host, &token), ["root/notes", "var/log/syslog"]);
    let after = fs::read_to_string(host.path(USER_DATA)).unwrap();
    assert_eq!(after.len(), user_data.len());
    let record = fs::read_to_string(host.path("var/lib/monsys/.monsys-scrub.json")).unwrap();
    assert!(!record.contains(&token) && record.contains("\"tokens\":true"));
    host.agent(&["unenrol"]).run().expect(0);
    assert!(!host.path("var/lib/monsys/.monsys-scrub.json").exists());
}

/// Nobody asked for it: the user data of such a host is its operator's.
#[test]
fn nothing_is_scrubbed_at_a_start_that_nobody_asked_it_of() {
    let hub = TestHub::new();
    let token = hub.token();
    let host = host_with(&token);
    host.enrol_with(&hub, &token, &[]).run().expect(0);
    host.agent(&["prepare"]).run().expect(0);
    assert_eq!(held(&host, &token).len(), 6);
}
