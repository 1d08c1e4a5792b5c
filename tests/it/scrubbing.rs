//! The enrolment token in what cloud-init keeps of user data: gone once the hub has confirmed.

use std::fs;
use std::os::unix::fs::symlink;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

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

#[test]
fn a_file_that_cannot_be_scrubbed_is_named_and_the_run_fails() {
    let hub = TestHub::new();
    let token = hub.token();
    let host = host_with(&token);
    // More than is looked into: the logs of years.
    let log = fs::File::create(host.path(LOG)).unwrap();
    log.set_len(65 << 20).unwrap();
    let run = host
        .enrol_with(&hub, &token, &["--scrub-cloud-init", "yes"])
        .run()
        .expect(74);
    run.says(&[
        "enrolled, but the enrolment token is still",
        LOG,
        "larger than 64 MiB",
    ]);
    hub.expect_one_slot();
    fs::remove_file(host.path(LOG)).unwrap();
    assert_eq!(held(&host, &token), ["root/notes", "var/log/syslog"]);
}
