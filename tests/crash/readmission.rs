//! An enrolled host and its hub: the hub has forgotten the host and takes it back, or confirms it.

use std::cell::RefCell;
use std::fs;

use dialect_monsys::receipt::Receipt;
use serde_json::json;

use crate::common::{LostHub, MODES, Mint, Prepared, Run, TestHost, TestHub};
use crate::scenario::{Case, Scenario, ensure, names};

/// All of them. Each host has a hub of its own, since the hub loses all of its hosts.
pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "a return by the receipt",
        prepare: |_| Box::new(Return::by_receipt()),
    },
    Scenario {
        name: "a return by the token",
        prepare: |_| Box::new(Return::by_token()),
    },
    Scenario {
        name: "a confirmation that renews the receipt",
        prepare: |_| Box::new(Return::confirmation()),
    },
];

/// A rotation of the key, after which the hub loses its database.
pub(crate) const NEW_KEY: Scenario = Scenario {
    name: "a new key of a host with a receipt",
    prepare: |_| Box::new(NewKey::of_enrolled()),
};

const KEY: &str = "var/lib/monsys/agent-signing.key";
const RECEIPT: &str = "var/lib/monsys/receipt";

/// An enrolled host before its `enrol`, and the expected result.
struct Return {
    hub: LostHub,
    host: TestHost,
    /// The value of `MONSYS_TOKEN`, if the run has a token.
    token: Option<String>,
    /// The uses of all tokens at the end.
    uses: u64,
    /// The host stays the agent that it was.
    is_same: bool,
    /// The hub knows the host, so the credential stays.
    is_known: bool,
    before: Identity,
}

/// Files of the identity.
#[derive(PartialEq)]
struct Identity {
    agent: String,
    key: Vec<u8>,
    receipt: String,
}

impl Identity {
    fn of(host: &TestHost) -> Self {
        Self {
            agent: host.key("agent_id").unwrap(),
            key: fs::read(host.path(KEY)).unwrap(),
            receipt: fs::read_to_string(host.path(RECEIPT)).unwrap(),
        }
    }
}

impl Return {
    /// The hub knows the host. The run has no token.
    fn enrolled(hub: LostHub) -> Self {
        let host = TestHost::new();
        host.write_file("etc/monsys/agent.toml", "# mine\nlog_dir = '/srv' # kept\n");
        host.enrol(hub.hub(), &single_use(&hub)).run().expect(0);
        Self {
            before: Identity::of(&host),
            hub,
            host,
            token: None,
            uses: 1,
            is_same: true,
            is_known: true,
        }
    }

    fn by_receipt() -> Self {
        let mut enrolled = Self::enrolled(LostHub::new());
        enrolled.hub.lose();
        enrolled.hub.open();
        Self {
            uses: 0,
            is_known: false,
            ..enrolled
        }
    }

    /// The operator does not open the readmission.
    fn by_token() -> Self {
        let mut enrolled = Self::enrolled(LostHub::new());
        enrolled.hub.lose();
        Self {
            token: Some(single_use(&enrolled.hub)),
            is_same: false,
            is_known: false,
            ..enrolled
        }
    }

    /// The receipt is two days old.
    fn confirmation() -> Self {
        let hub = LostHub::new();
        hub.hub().set_clock_by(-2 * 24 * 3600);
        let enrolled = Self::enrolled(hub);
        enrolled.hub.hub().set_clock_by(0);
        enrolled
    }

    fn enrol(&self, arguments: &[&str]) -> Prepared {
        let prepared = self.host.agent(arguments);
        match &self.token {
            Some(token) => prepared.env("MONSYS_TOKEN", token),
            None => prepared,
        }
    }

    /// Checks that the host has complete files, and that the hub has one agent with that identity.
    fn is_complete(&self) -> Result<(), String> {
        let host = &self.host;
        let expected = [
            "agent-id",
            "agent-signing.key",
            "agent.toml",
            "lock",
            "receipt",
            "state.json",
        ];
        if names(host) != expected {
            return Err(format!("stray or missing files: {:?}", names(host)));
        }
        for (path, mode) in MODES.into_iter().chain([(RECEIPT, 0o600)]) {
            if host.mode(path) != mode {
                return Err(format!("{path} has mode {:o}", host.mode(path)));
            }
        }
        let now = Identity::of(host);
        if now.key != self.before.key {
            return Err("another key".into());
        }
        if self.is_same && now.agent != self.before.agent {
            return Err(format!("{} is another agent", now.agent));
        }
        if self.is_known && now.receipt == self.before.receipt {
            return Err("the receipt was not renewed".into());
        }
        let subject = Receipt::parse(&now.receipt).and_then(|receipt| receipt.agent_id());
        if subject.map(|id| id.to_string()).as_ref() != Some(&now.agent) {
            return Err(format!("the receipt is for {subject:?}, not {}", now.agent));
        }
        let id_file = fs::read_to_string(host.path("var/lib/monsys/agent-id")).unwrap();
        if id_file.trim() != now.agent {
            return Err(format!("agent-id {id_file:?} is not {}", now.agent));
        }
        let agents = self.hub.hub().agents();
        let spent = self.hub.hub().spent();
        if agents.len() != 1 || agents[0]["agent_id"] != *now.agent || spent != self.uses {
            return Err(format!("{agents:?}, {spent} uses, agent {}", now.agent));
        }
        Ok(())
    }
}

fn single_use(hub: &LostHub) -> String {
    hub.hub().mint(&Mint::new().with("max_uses", json!(1))).0
}

impl Case for Return {
    fn host(&self) -> &TestHost {
        &self.host
    }

    fn command(&self, _: &TestHub) -> Prepared {
        self.enrol(&["enrol"])
    }

    /// agent.toml has the old credential or the complete new one, and the key stays at any point.
    fn check_interrupted(&self, before: Option<&[u8]>, run: &Run) -> Result<(), String> {
        let text = self.host.agent_toml();
        let parts = [
            "# mine\n",
            "# kept\n",
            "hub_url = \"",
            "agent_id = \"",
            "agent_token = \"agt_",
            "tags = [",
        ];
        let is_complete = parts.iter().all(|part| text.contains(part));
        ensure(is_complete, "agent.toml is torn", run)?;
        let is_old = Some(text.as_bytes()) == before;
        ensure(
            is_old || !self.is_known,
            "a known host has another credential",
            run,
        )?;
        ensure(
            run.code != 0 || !is_old || self.is_known,
            "success without a credential",
            run,
        )?;
        let now = Identity::of(&self.host);
        ensure(now.key == self.before.key, "another key", run)?;
        // The payload of each receipt has its own length, and the signature has always the same.
        let signature = |receipt: &str| receipt.rsplit('.').next().unwrap().len();
        let is_complete = Receipt::parse(&now.receipt).is_some()
            && signature(&now.receipt) == signature(&self.before.receipt);
        ensure(is_complete, "the receipt is torn", run)
    }

    fn check_next_run(&self, _: &TestHub) -> Result<(), String> {
        let again = self.enrol(&["enrol"]).run();
        ensure(again.code == 0, "the next run failed", &again)?;
        self.is_complete()?;
        // The hub knows credential and key now: there is nothing left to change, and no token is spent.
        let proof = self.enrol(&["enrol", "--output", "json"]).run();
        ensure(proof.code == 0, "the credential does not work", &proof)?;
        let json = proof.json();
        let is_confirmed = json["result"] == "already_enrolled" && json["confirmed"] == true;
        ensure(is_confirmed, "it is not confirmed", &proof)?;
        self.is_complete()
    }
}

/// The host takes the new key into use without a request. So it needs the receipt that belongs to this key.
struct NewKey {
    hub: RefCell<LostHub>,
    host: TestHost,
    before: Identity,
}

impl NewKey {
    fn of_enrolled() -> Self {
        let Return {
            hub, host, before, ..
        } = Return::enrolled(LostHub::new());
        let path = format!("agents/{}/rotate-signing-key", before.agent);
        hub.hub().post(&path, json!({}));
        Self {
            hub: RefCell::new(hub),
            host,
            before,
        }
    }
}

impl Case for NewKey {
    fn host(&self) -> &TestHost {
        &self.host
    }

    fn command(&self, _: &TestHub) -> Prepared {
        self.host.agent(&["rotate-key"])
    }

    fn check_interrupted(&self, before: Option<&[u8]>, run: &Run) -> Result<(), String> {
        let is_same = Some(self.host.agent_toml().as_bytes()) == before;
        ensure(is_same, "agent.toml was changed", run)
    }

    fn check_next_run(&self, _: &TestHub) -> Result<(), String> {
        let step = self.host.agent(&["prepare"]).run();
        ensure(step.code == 0, "the step failed", &step)?;
        let now = Identity::of(&self.host);
        ensure(now.key != self.before.key, "the key is the old one", &step)?;
        let mut hub = self.hub.borrow_mut();
        hub.lose();
        hub.open();
        let back = self.host.agent(&["enrol", "--output", "json"]).run();
        ensure(back.code == 0, "the hub did not take it back", &back)?;
        let is_same = back.json()["agent_id"] == *self.before.agent;
        ensure(is_same, "it is another agent", &back)
    }
}
