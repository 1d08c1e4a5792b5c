//! The lifecycle of an enrolled host: both rotations and the unenrolment.

use serde_json::json;

use crate::common::{Prepared, Run, TestHost, TestHub, until};
use crate::scenario::{Case, Scenario, ensure, names};

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
        name: "an unenrolment",
        prepare: |hub| Box::new(Unenrolment(enrolled(hub))),
    },
];

/// A host whose key is not pinned, as before the rotation of a key.
fn enrolled(hub: &TestHub) -> TestHost {
    let host = TestHost::new();
    host.write_file("etc/monsys/agent.toml", "# mine\nlog_dir = '/srv' # kept\n");
    host.enrol(hub, &hub.token()).run().expect(0);
    host
}

fn agent(host: &TestHost) -> String {
    host.key("agent_id").unwrap()
}

/// Checks that the service sends a heartbeat and that the hub reports no anomaly.
fn sends_heartbeats(host: &TestHost, hub: &TestHub) -> Result<(), String> {
    let path = format!("agents/{}", agent(host));
    let service = host.service();
    until("a heartbeat", || {
        hub.get(&path)["last_heartbeat"]["captured_at"].is_string()
    });
    let run = service.stop();
    ensure(run.code == 0, "the service failed", &run)?;
    let anomalies = hub.get("integrity")["anomalies"].to_string();
    if anomalies.contains(&agent(host)) {
        return Err(format!(
            "the hub reports anomalies of this host: {anomalies}"
        ));
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
    ensure(proof.code == 0, "the credential does not work", &proof)
}

/// Checks that agent.toml has a complete credential and the user's own lines.
fn has_credential(host: &TestHost, run: &Run) -> Result<(), String> {
    let text = host.agent_toml();
    let parts = [
        "# mine\n",
        "# kept\n",
        "agent_id = \"",
        "agent_token = \"agt_",
    ];
    let is_complete = parts.iter().all(|part| text.contains(part));
    ensure(is_complete, "agent.toml is torn", run)
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

    fn has_new_token(&self) -> bool {
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

    fn check_interrupted(&self, before: Option<&[u8]>, run: &Run) -> Result<(), String> {
        has_credential(&self.host, run)?;
        let is_old = Some(self.host.agent_toml().as_bytes()) == before;
        ensure(is_old || self.has_new_token(), "agent.toml is neither", run)?;
        ensure(
            run.code != 0 || self.has_new_token(),
            "success without it",
            run,
        )
    }

    /// The operator has revoked the old token at the hub. So the host sends heartbeats if it has the new
    /// token; otherwise the command is repeated.
    fn check_next_run(&self, hub: &TestHub) -> Result<(), String> {
        if self.has_new_token() {
            return sends_heartbeats(&self.host, hub);
        }
        let again = self.command(hub).run();
        ensure(
            again.code == 0 && self.has_new_token(),
            "the next run failed",
            &again,
        )?;
        sends_heartbeats(&self.host, hub)
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

    fn check_interrupted(&self, _: Option<&[u8]>, run: &Run) -> Result<(), String> {
        has_credential(&self.0, run)
    }

    /// The command is not repeated: the service finds out which key the hub has.
    fn check_next_run(&self, hub: &TestHub) -> Result<(), String> {
        sends_heartbeats(&self.0, hub)
    }
}

struct Unenrolment(TestHost);

impl Case for Unenrolment {
    fn host(&self) -> &TestHost {
        &self.0
    }

    fn command(&self, _: &TestHub) -> Prepared {
        self.0.agent(&["unenrol"])
    }

    fn check_interrupted(&self, _: Option<&[u8]>, run: &Run) -> Result<(), String> {
        if self.0.key("agent_id").is_some() {
            ensure(
                run.code != 0,
                "success although the credential is still there",
                run,
            )?;
            return has_credential(&self.0, run);
        }
        let text = self.0.agent_toml();
        let is_clean = text.contains("# kept\n") && !text.contains("agt_");
        ensure(is_clean, "agent.toml is torn", run)
    }

    fn check_next_run(&self, hub: &TestHub) -> Result<(), String> {
        let id = self.0.key("agent_id");
        let again = self.0.agent(&["unenrol"]).run();
        ensure(again.code == 0, "the next run failed", &again)?;
        if names(&self.0) != ["agent.toml", "lock"] {
            return Err(format!("stray files: {:?}", names(&self.0)));
        }
        if let Some(id) = id
            && hub.agents().iter().any(|agent| agent["agent_id"] == *id)
        {
            return Err("the hub still lists it".into());
        }
        let status = self.0.agent(&["status"]).run();
        ensure(
            status.code == 78,
            "status reports an enrolled host",
            &status,
        )
    }
}
