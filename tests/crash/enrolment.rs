//! Each kind of `enrol` that changes the host.

use serde_json::json;

use crate::common::{MODES, Mint, Prepared, Run, TestHost, TestHub};
use crate::scenario::{Case, Scenario, ensure, names};

/// A host before its enrolment, and the expected result.
struct Enrolment {
    host: TestHost,
    /// Arguments after the hub's.
    arguments: Vec<&'static str>,
    /// Those of the next run, when they differ.
    again: Option<Vec<&'static str>>,
    /// The value of `MONSYS_TOKEN`.
    token: String,
    /// The id of the enrolment token, and the number of its uses at the end.
    counted: Option<(String, u64)>,
    /// The last tag that agent.toml must have.
    last_tag: &'static str,
}

/// All of them.
pub(crate) const ENROLMENTS: &[Scenario] = &[
    Scenario {
        name: "a new host",
        prepare: |hub| Box::new(new_host(hub)),
    },
    Scenario {
        name: "a host with a per-agent token",
        prepare: |hub| Box::new(per_agent_token(hub)),
    },
    Scenario {
        name: "a clone",
        prepare: |hub| Box::new(clone(hub)),
    },
    Scenario {
        name: "other tags",
        prepare: |hub| Box::new(other_tags(hub)),
    },
    Scenario {
        name: "a forced enrolment",
        prepare: |hub| Box::new(forced(hub)),
    },
    Scenario {
        name: "a lost key",
        prepare: |hub| Box::new(lost_key(hub)),
    },
];

fn single_use(hub: &TestHub) -> (String, String) {
    hub.mint(&Mint::new().with("max_uses", json!(1)))
}

fn new_host(hub: &TestHub) -> Enrolment {
    let (token, id) = single_use(hub);
    let host = TestHost::new();
    host.write_file("etc/monsys/agent.toml", "# mine\nlog_dir = '/srv' # kept\n");
    Enrolment {
        host,
        arguments: vec!["--tag", "shard-3"],
        again: None,
        token,
        counted: Some((id, 1)),
        last_tag: "shard-3",
    }
}

fn per_agent_token(hub: &TestHub) -> Enrolment {
    let (token, _) = hub.per_agent_token(json!({}));
    Enrolment {
        host: TestHost::new(),
        arguments: vec!["--tag", "shard-3"],
        again: None,
        token,
        counted: None,
        last_tag: "shard-3",
    }
}

fn clone(hub: &TestHub) -> Enrolment {
    let (first, _) = single_use(hub);
    let original = TestHost::new();
    original.enrol(hub, &first).run().expect(0);
    let host = original.copy();
    host.write_file("etc/machine-id", "fedcba9876543210fedcba9876543210\n");
    let (token, id) = single_use(hub);
    Enrolment {
        host,
        arguments: vec!["--tag", "clone"],
        again: None,
        token,
        counted: Some((id, 1)),
        last_tag: "clone",
    }
}

/// The interrupted run has `--force`, and the next one does not: `Enrolment::again`.
fn forced(hub: &TestHub) -> Enrolment {
    let (token, id) = single_use(hub);
    let host = TestHost::new();
    host.enrol_with(hub, &token, &["--tag", "same"])
        .run()
        .expect(0);
    Enrolment {
        host,
        arguments: vec!["--tag", "same", "--force"],
        again: Some(vec!["--tag", "same"]),
        token,
        counted: Some((id, 1)),
        last_tag: "same",
    }
}

fn lost_key(hub: &TestHub) -> Enrolment {
    let (first, id) = single_use(hub);
    let host = TestHost::new();
    host.enrol(hub, &first).run().expect(0);
    std::fs::remove_file(host.path("var/lib/monsys/agent-signing.key")).unwrap();
    let agent = host.key("agent_id").unwrap();
    hub.post(&format!("agents/{agent}/rotate-signing-key"), json!({}));
    Enrolment {
        host,
        arguments: vec!["--tag", "found", "--force"],
        again: None,
        token: String::new(),
        counted: Some((id, 1)),
        last_tag: "found",
    }
}

fn other_tags(hub: &TestHub) -> Enrolment {
    let (token, id) = single_use(hub);
    let host = TestHost::new();
    host.enrol_with(hub, &token, &["--tag", "before"])
        .run()
        .expect(0);
    Enrolment {
        host,
        arguments: vec!["--tag", "after"],
        again: None,
        token,
        counted: Some((id, 1)),
        last_tag: "after",
    }
}

impl Case for Enrolment {
    fn host(&self) -> &TestHost {
        &self.host
    }

    fn command(&self, hub: &TestHub) -> Prepared {
        self.host.enrol_with(hub, &self.token, &self.arguments)
    }

    /// agent.toml is unchanged, or has the complete new credential.
    fn check_interrupted(&self, before: Option<&[u8]>, run: &Run) -> Result<(), String> {
        let now = std::fs::read(self.host.path("etc/monsys/agent.toml")).ok();
        let is_new = now
            .as_deref()
            .map(String::from_utf8_lossy)
            .is_some_and(|text| {
                let has = |key: &str| text.contains(&format!("{key} = "));
                ["hub_url", "agent_id", "agent_token", "tags"]
                    .iter()
                    .all(|key| has(key))
            });
        let is_old = now.as_deref() == before;
        ensure(is_old || is_new, "agent.toml is torn", run)?;
        ensure(
            run.code != 0 || (is_new && !is_old),
            "success without a credential",
            run,
        )
    }

    fn check_next_run(&self, hub: &TestHub) -> Result<(), String> {
        let arguments = self.again.as_ref().unwrap_or(&self.arguments);
        let again = self.host.enrol_with(hub, &self.token, arguments).run();
        ensure(again.code == 0, "the next run failed", &again)?;
        self.is_complete(hub)
    }
}

impl Enrolment {
    fn is_complete(&self, hub: &TestHub) -> Result<(), String> {
        let host = &self.host;
        for (path, mode) in MODES {
            if host.mode(path) != mode {
                return Err(format!("{path} has mode {:o}", host.mode(path)));
            }
        }
        let expected = [
            "agent-id",
            "agent-signing.key",
            "agent.toml",
            "lock",
            "state.json",
        ];
        if names(host) != expected {
            return Err(format!("stray or missing files: {:?}", names(host)));
        }
        let text = host.agent_toml();
        let last = format!("\"{}\"]", self.last_tag);
        if !text.contains(&last) {
            return Err(format!("tags are not those of the command:\n{text}"));
        }
        let id = host.key("agent_id").unwrap();
        let id_file = std::fs::read_to_string(host.path("var/lib/monsys/agent-id")).unwrap();
        if id_file.trim() != id {
            return Err(format!("agent-id {id_file:?} is not {id}"));
        }
        if let Some((token, expected)) = &self.counted {
            let spent = hub.get(&format!("enrolment-tokens/{token}"))["uses"].clone();
            let rows = hub.uses(token);
            if spent != *expected || rows.len() as u64 != *expected || rows[0]["agent_id"] != *id {
                return Err(format!("{spent} uses, audit {rows:?}, agent {id}"));
            }
        }
        // Key and credential belong together: a signed call with both is accepted.
        let proof = host.agent(&["enrol", "--tag", "proof"]).run();
        ensure(proof.code == 0, "the credential does not work", &proof)
    }
}
