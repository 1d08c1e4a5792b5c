//! What is interrupted: each way of `enrol` that changes the host.

use serde_json::json;

use crate::common::{Mint, TestHost, TestHub};

/// One way of enrolling.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    prepare: fn(&TestHub) -> Case,
}

/// A host that is about to be enrolled, and what has to be true of it afterwards.
pub(crate) struct Case {
    pub(crate) host: TestHost,
    /// Arguments after the hub's.
    pub(crate) arguments: Vec<&'static str>,
    /// Those of the next run, when they differ.
    pub(crate) again: Option<Vec<&'static str>>,
    /// What is in `MONSYS_TOKEN`.
    pub(crate) token: String,
    /// The enrolment token whose uses count, and how many it must have spent in the end.
    pub(crate) counted: Option<(String, u64)>,
    /// The tag that agent.toml must end with.
    pub(crate) last_tag: &'static str,
}

/// All of them.
pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "a new host",
        prepare: new_host,
    },
    Scenario {
        name: "a host with a per-agent token",
        prepare: per_agent_token,
    },
    Scenario {
        name: "a clone",
        prepare: clone,
    },
    Scenario {
        name: "other tags",
        prepare: other_tags,
    },
    Scenario {
        name: "a forced enrolment",
        prepare: forced,
    },
    Scenario {
        name: "a lost key",
        prepare: lost_key,
    },
];

impl Scenario {
    /// A fresh host.
    pub(crate) fn prepare(&self, hub: &TestHub) -> Case {
        (self.prepare)(hub)
    }
}

fn single_use(hub: &TestHub) -> (String, String) {
    hub.mint(&Mint::new().with("max_uses", json!(1)))
}

fn new_host(hub: &TestHub) -> Case {
    let (token, id) = single_use(hub);
    let host = TestHost::new();
    host.lay("etc/monsys/agent.toml", "# mine\nlog_dir = '/srv' # kept\n");
    Case {
        host,
        arguments: vec!["--tag", "shard-3"],
        again: None,
        token,
        counted: Some((id, 1)),
        last_tag: "shard-3",
    }
}

fn per_agent_token(hub: &TestHub) -> Case {
    let (token, _) = hub.per_agent_token(json!({}));
    Case {
        host: TestHost::new(),
        arguments: vec!["--tag", "shard-3"],
        again: None,
        token,
        counted: None,
        last_tag: "shard-3",
    }
}

fn clone(hub: &TestHub) -> Case {
    let (first, _) = single_use(hub);
    let original = TestHost::new();
    original.enrol(hub, &first).run().expect(0);
    let host = original.copy();
    host.lay("etc/machine-id", "fedcba9876543210fedcba9876543210\n");
    let (token, id) = single_use(hub);
    Case {
        host,
        arguments: vec!["--tag", "clone"],
        again: None,
        token,
        counted: Some((id, 1)),
        last_tag: "clone",
    }
}

/// The interrupted run is forced, and the next one is plain: `Case::again`.
fn forced(hub: &TestHub) -> Case {
    let (token, id) = single_use(hub);
    let host = TestHost::new();
    host.enrol_with(hub, &token, &["--tag", "same"])
        .run()
        .expect(0);
    Case {
        host,
        arguments: vec!["--tag", "same", "--force"],
        again: Some(vec!["--tag", "same"]),
        token,
        counted: Some((id, 1)),
        last_tag: "same",
    }
}

fn lost_key(hub: &TestHub) -> Case {
    let (first, id) = single_use(hub);
    let host = TestHost::new();
    host.enrol(hub, &first).run().expect(0);
    std::fs::remove_file(host.path("var/lib/monsys/agent-signing.key")).unwrap();
    let agent = host.key("agent_id").unwrap();
    hub.post(&format!("agents/{agent}/rotate-signing-key"), json!({}));
    Case {
        host,
        arguments: vec!["--tag", "found", "--force"],
        again: None,
        token: String::new(),
        counted: Some((id, 1)),
        last_tag: "found",
    }
}

fn other_tags(hub: &TestHub) -> Case {
    let (token, id) = single_use(hub);
    let host = TestHost::new();
    host.enrol_with(hub, &token, &["--tag", "before"])
        .run()
        .expect(0);
    Case {
        host,
        arguments: vec!["--tag", "after"],
        again: None,
        token,
        counted: Some((id, 1)),
        last_tag: "after",
    }
}
