//! The life after the enrolment: both rotations, and leaving.

use serde_json::json;

use crate::common::{Prepared, Run, TestHost, TestHub, until};
use crate::scenario::{Case, Scenario, must, names};

/// All of them.
pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "a new token",
        prepare: |hub| Box::new(NewToken::of(hub)),
    },
    Scenario {
        name: "a new key",
        prepare: |hub| Box::new(NewKey(enrolled(hub))),
    },
    Scenario {
        name: "leaving",
        prepare: |hub| Box::new(Leaving(enrolled(hub))),
    },
];

/// A host whose key is not pinned, as before the rotation of a key.
fn enrolled(hub: &TestHub) -> TestHost {
    let host = TestHost::new();
    host.lay("etc/monsys/agent.toml", "# mine\nlog_dir = '/srv' # kept\n");
    host.enrol(hub, &hub.token()).run().expect(0);
    host
}

fn agent(host: &TestHost) -> String {
    host.key("agent_id").unwrap()
}

/// The service gets a heartbeat through, and the hub has seen nothing that it had to doubt.
fn speaks(host: &TestHost, hub: &TestHub) -> Result<(), String> {
    let path = format!("agents/{}", agent(host));
    let service = host.service();
    until("a heartbeat", || {
        hub.get(&path)["last_heartbeat"]["captured_at"].is_string()
    });
    let run = service.stop();
    must(run.code == 0, "the service failed", &run)?;
    let anomalies = hub.get("integrity")["anomalies"].to_string();
    if anomalies.contains(&agent(host)) {
        return Err(format!("the hub doubts this host: {anomalies}"));
    }
    let expected = [
        "agent-id",
        "agent-signing.key",
        "agent.toml",
        "heartbeat.json",
        "lock",
        "state.json",
    ];
    if names(host) != expected {
        return Err(format!("stray or missing files: {:?}", names(host)));
    }
    let proof = host.agent(&["enrol", "--tag", "proof"]).run();
    must(proof.code == 0, "the credential does not work", &proof)
}

/// agent.toml has a whole credential, and what the user keeps there.
fn has_credential(host: &TestHost, run: &Run) -> Result<(), String> {
    let text = host.agent_toml();
    let parts = [
        "# mine\n",
        "# kept\n",
        "agent_id = \"",
        "agent_token = \"agt_",
    ];
    let is_whole = parts.iter().all(|part| text.contains(part));
    must(is_whole, "agent.toml is torn", run)
}

struct NewToken {
    host: TestHost,
    token: String,
}

impl NewToken {
    fn of(hub: &TestHub) -> Self {
        let host = enrolled(hub);
        let rotated = hub.post(&format!("agents/{}/rotate-token", agent(&host)), json!({}));
        Self {
            host,
            token: rotated["token"].as_str().unwrap().to_owned(),
        }
    }

    fn has_it(&self) -> bool {
        self.host.key("agent_token").unwrap() == self.token
    }
}

impl Case for NewToken {
    fn host(&self) -> &TestHost {
        &self.host
    }

    fn command(&self, _: &TestHub) -> Prepared {
        self.host
            .agent(&["rotate-token"])
            .env("MONSYS_TOKEN", &self.token)
    }

    fn is_whole(&self, before: Option<&[u8]>, run: &Run) -> Result<(), String> {
        has_credential(&self.host, run)?;
        let is_old = Some(self.host.agent_toml().as_bytes()) == before;
        must(is_old || self.has_it(), "agent.toml is neither", run)?;
        must(run.code != 0 || self.has_it(), "success without it", run)
    }

    /// The old token is dead at the hub, by the operator's own act. So the host speaks when it has
    /// the new one, and else the command is run again.
    fn goes_on(&self, hub: &TestHub) -> Result<(), String> {
        if self.has_it() {
            return speaks(&self.host, hub);
        }
        let again = self.command(hub).run();
        must(
            again.code == 0 && self.has_it(),
            "the next run failed",
            &again,
        )?;
        speaks(&self.host, hub)
    }
}

struct NewKey(TestHost);

impl Case for NewKey {
    fn host(&self) -> &TestHost {
        &self.0
    }

    fn command(&self, hub: &TestHub) -> Prepared {
        let path = format!("agents/{}/rotate-signing-key", agent(&self.0));
        hub.post(&path, json!({}));
        self.0.agent(&["rotate-key"])
    }

    fn is_whole(&self, _: Option<&[u8]>, run: &Run) -> Result<(), String> {
        has_credential(&self.0, run)
    }

    /// Nobody repeats the command: the service alone finds out which key the hub has.
    fn goes_on(&self, hub: &TestHub) -> Result<(), String> {
        speaks(&self.0, hub)
    }
}

struct Leaving(TestHost);

impl Case for Leaving {
    fn host(&self) -> &TestHost {
        &self.0
    }

    fn command(&self, _: &TestHub) -> Prepared {
        self.0.agent(&["unenrol"])
    }

    fn is_whole(&self, _: Option<&[u8]>, run: &Run) -> Result<(), String> {
        if self.0.key("agent_id").is_some() {
            must(run.code != 0, "success with the credential left", run)?;
            return has_credential(&self.0, run);
        }
        let text = self.0.agent_toml();
        let is_clean = text.contains("# kept\n") && !text.contains("agt_");
        must(is_clean, "agent.toml is torn", run)
    }

    fn goes_on(&self, hub: &TestHub) -> Result<(), String> {
        let id = self.0.key("agent_id");
        let again = self.0.agent(&["unenrol"]).run();
        must(again.code == 0, "the next run failed", &again)?;
        if names(&self.0) != ["agent.toml", "lock"] {
            return Err(format!("stray files: {:?}", names(&self.0)));
        }
        if let Some(id) = id
            && hub.agents().iter().any(|agent| agent["agent_id"] == *id)
        {
            return Err("the hub still lists it".into());
        }
        let status = self.0.agent(&["status"]).run();
        must(status.code == 78, "it counts as enrolled", &status)
    }
}
