//! A copied disk enrols separately, and the original keeps its identity.

use std::fs;

use crate::common::{TestHost, TestHub};

#[test]
fn a_clone_gets_its_own_key_and_does_not_affect_the_original() {
    let (hub, original) = (TestHub::new(), TestHost::new());
    original
        .enrol_with(&hub, &hub.token(), &["--tag", "mine"])
        .run()
        .expect(0);
    let clone = original.copy();
    clone.write_file("etc/machine-id", "fedcba9876543210fedcba9876543210\n");

    let status = clone
        .agent(&["status", "--output", "json"])
        .run()
        .expect(78);
    assert_eq!(status.json()["state"], "clone");
    let status = clone.agent(&["status"]).run().expect(78);
    assert!(
        status.stdout.contains("belongs to another machine, web-3"),
        "{}",
        status.stdout
    );
    clone
        .agent(&["enrol"])
        .run()
        .expect(64)
        .expect_stderr(&["cloned from"]);
    clone.enrol(&hub, "enrl_wrong").run().expect(77);
    let key = |host: &TestHost| fs::read(host.path("var/lib/monsys/agent-signing.key")).unwrap();
    assert_eq!(key(&clone), key(&original), "gave up a key for nothing");

    clone.enrol(&hub, &hub.token()).run().expect(0);
    assert_ne!(key(&clone), key(&original));
    assert_ne!(clone.key("agent_id"), original.key("agent_id"));
    assert_eq!(clone.key("tags"), original.key("tags"));
    let is_waiting = |name: &String| name.contains(".next");
    assert!(!clone.names("var/lib/monsys").iter().any(is_waiting));
    clone.agent(&["status"]).run().expect(0);
    assert_eq!(hub.agents().len(), 2);

    // The original's credential still works.
    original
        .agent(&["enrol", "--tag", "still-me"])
        .run()
        .expect(0);
}

#[test]
fn a_copied_disk_with_the_same_names_but_another_cloud_instance_is_a_clone() {
    let (hub, original) = (TestHub::new(), TestHost::new());
    original.write_file("run/cloud-init/.instance-id", "i-0123456789abcdef0\n");
    original.enrol(&hub, &hub.token()).run().expect(0);
    // Only the machine-id is new: the instance id of the cloud is the same.
    let renamed = original.copy();
    renamed.write_file("etc/machine-id", "fedcba9876543210fedcba9876543210\n");
    renamed.agent(&["status"]).run().expect(0);
    let copy = original.copy();
    copy.write_file("run/cloud-init/.instance-id", "i-0fedcba9876543210\n");
    let status = copy.agent(&["status", "--output", "json"]).run().expect(78);
    assert_eq!(status.json()["state"], "clone");
}
