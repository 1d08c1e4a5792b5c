//! `status`: the second command, which proves the first.

use crate::common::{TestHost, TestHub};

#[test]
fn says_whether_where_and_as_what() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let before = host.agent(&["status"]).run().expect(78);
    assert!(before.stdout.contains("not enrolled"), "{}", before.stdout);
    assert!(before.stdout.contains("monsys-agent enrol"));
    assert!(!host.path("etc/monsys").exists(), "status writes nothing");

    host.enrol_with(&hub, &hub.token(), &["--tag", "shard-3"])
        .run()
        .expect(0);
    let run = host.agent(&["status"]).run().expect(0);
    for part in [hub.url().as_str(), "shard-3", "web", "present"] {
        assert!(run.stdout.contains(part), "{}", run.stdout);
    }
    let json = host
        .agent(&["status", "--output", "json"])
        .run()
        .expect(0)
        .json();
    assert_eq!(json["enrolled"], true);
    assert_eq!(json["agent_id"], hub.agents()[0]["agent_id"]);
    assert!(!json.to_string().contains("agt_"));
}

#[test]
fn a_lost_key_is_told() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol(&hub, &hub.token()).run().expect(0);
    std::fs::remove_file(host.path("var/lib/monsys/agent-signing.key")).unwrap();
    let run = host.agent(&["status"]).run().expect(78);
    assert!(run.stdout.contains("lost"), "{}", run.stdout);
}
