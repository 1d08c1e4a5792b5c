//! `status` on a host whose first boot has not enrolled it yet, by the state of the boot script.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::common::TestHost;

const STATE: &str = "var/lib/monsys-boot/state";

fn status(host: &TestHost) -> Value {
    let arguments = ["status", "--output", "json"];
    host.agent(&arguments).run().expect(78).json()["first_boot"].clone()
}

#[test]
fn the_status_reports_the_next_try_and_the_last_error_of_a_first_boot() {
    let host = TestHost::new();
    assert_eq!(status(&host), Value::Null);
    host.write_file(
        STATE,
        "state=trying\ncode=69\nerror=a = b\nnext=1800000000\n",
    );
    let expected = json!({"state": "trying", "next_try": "2027-01-15T08:00:00Z", "exit_code": 69, "error": "a = b"});
    assert_eq!(status(&host), expected);
    let text = host.agent(&["status"]).run().expect(78).stdout;
    assert!(
        text.contains("the next try: 2027-01-15T08:00:00Z"),
        "{text}"
    );
    host.write_file(STATE, "state=trying\ncode=69\nerror=no network\n");
    assert_eq!(status(&host)["next_try"], Value::Null);
    host.write_file(STATE, "state=final\ncode=77\nerror=rejected\n");
    let expected =
        json!({"state": "final", "next_try": null, "exit_code": 77, "error": "rejected"});
    assert_eq!(status(&host), expected);
}

#[test]
fn a_broken_or_planted_state_of_a_first_boot_is_only_data() {
    let host = TestHost::new();
    host.write_file(
        STATE,
        "next=99999999999999999999\nerror=\u{1b}[2J\u{202e}\n\0\n",
    );
    let text = host.agent(&["status"]).run().expect(78).stdout;
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
    fs::remove_file(host.path(STATE)).unwrap();
    host.write_file("elsewhere", "state=final\n");
    symlink(host.path("elsewhere"), host.path(STATE)).unwrap();
    host.agent(&["status"]).run().expect(78);
}
