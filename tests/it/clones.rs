//! A copied disk enrols as itself, and the original keeps its identity.

use std::fs;

use crate::common::{TestHost, TestHub};

#[test]
fn a_clone_makes_a_key_of_its_own_and_leaves_the_original_alone() {
    let (hub, original) = (TestHub::new(), TestHost::new());
    original
        .enrol_with(&hub, &hub.token(), &["--tag", "mine"])
        .run()
        .expect(0);
    let clone = original.copy();
    clone.lay("etc/machine-id", "fedcba9876543210fedcba9876543210\n");

    let status = clone
        .agent(&["status", "--output", "json"])
        .run()
        .expect(78);
    assert_eq!(status.json()["standing"], "clone");
    clone
        .agent(&["enrol"])
        .run()
        .expect(64)
        .says(&["cloned from"]);
    clone.enrol(&hub, "enrl_wrong").run().expect(77);
    let key = |host: &TestHost| fs::read(host.path("var/lib/monsys/agent-signing.key")).unwrap();
    assert_eq!(key(&clone), key(&original), "gave up a key for nothing");

    clone.enrol(&hub, &hub.token()).run().expect(0);
    assert_ne!(key(&clone), key(&original));
    assert_ne!(clone.key("agent_id"), original.key("agent_id"));
    assert_eq!(clone.key("tags"), original.key("tags"));
    assert!(!clone.path("var/lib/monsys/agent-signing.key.next").exists());
    clone.agent(&["status"]).run().expect(0);
    assert_eq!(hub.agents().len(), 2);

    // The original's credential still works.
    original
        .agent(&["enrol", "--tag", "still-me"])
        .run()
        .expect(0);
}

#[test]
fn a_clone_that_was_interrupted_goes_on_with_the_key_that_it_began_with() {
    let (hub, original) = (TestHub::new(), TestHost::new());
    let token = hub.token();
    original.enrol(&hub, &token).run().expect(0);
    let clone = original.copy();
    clone.lay("etc/machine-id", "fedcba9876543210fedcba9876543210\n");
    let old = clone.path("var/lib/monsys/agent-signing.key");
    let next = clone.path("var/lib/monsys/agent-signing.key.next");
    let (old_key, old_id) = (fs::read(&old).unwrap(), clone.key("agent_id").unwrap());

    clone.enrol(&hub, &token).run().expect(0);
    let new_key = fs::read(&old).unwrap();
    // As if it had been killed right after agent.toml was in place.
    fs::rename(&old, &next).unwrap();
    fs::write(&old, &old_key).unwrap();
    clone.lay("var/lib/monsys/agent-id", &old_id);
    fs::copy(
        original.path("var/lib/monsys/state.json"),
        clone.path("var/lib/monsys/state.json"),
    )
    .unwrap();

    clone.agent(&["enrol"]).run().expect(0);
    assert_eq!(fs::read(&old).unwrap(), new_key);
    assert!(!next.exists());
    clone.agent(&["status"]).run().expect(0);
    clone
        .agent(&["enrol", "--tag", "signed-anew"])
        .run()
        .expect(0);
    assert_eq!(hub.agents().len(), 2);
}
