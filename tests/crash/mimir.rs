//! Each kind of `enrol` that changes a Mimir host.

use serde_json::{Value, json};

use crate::common::{Prepared, Run, TestHost, TestHub};
use crate::scenario::{Case, Scenario, ensure};

/// All of them.
pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "a new host of Mimir's",
        prepare: |hub| Box::new(Enrolment::new(hub, TestHost::new())),
    },
    Scenario {
        name: "a clone of Mimir's",
        prepare: |hub| Box::new(clone(hub)),
    },
    Scenario {
        name: "a forced enrolment of Mimir's",
        prepare: |hub| Box::new(forced(hub)),
    },
];

/// A host before its enrolment with a secret that has one slot.
struct Enrolment {
    host: TestHost,
    secret: String,
    secret_id: Value,
    arguments: &'static [&'static str],
}

fn clone(hub: &TestHub) -> Enrolment {
    let original = Enrolment::new(hub, TestHost::new());
    original.command(hub).run().expect(0);
    let host = original.host.copy();
    host.write_file("etc/machine-id", "fedcba9876543210fedcba9876543210\n");
    Enrolment::new(hub, host)
}

fn forced(hub: &TestHub) -> Enrolment {
    let enrolled = Enrolment::new(hub, TestHost::new());
    enrolled.command(hub).run().expect(0);
    Enrolment {
        arguments: &["--force"],
        ..enrolled
    }
}

impl Enrolment {
    fn new(hub: &TestHub, host: TestHost) -> Self {
        let body = json!({"name": "one", "max_uses": 1});
        let minted = hub.post("mimir/enrollment-secrets", body);
        Self {
            host,
            secret: minted["secret"].as_str().unwrap().to_owned(),
            secret_id: minted["id"].clone(),
            arguments: &[],
        }
    }

    fn enrol(&self, hub: &TestHub, more: &[&str]) -> Prepared {
        let ca_file = self.host.install_ca(hub).unwrap();
        let arguments = [&["enrol"], more].concat();
        self.host
            .agent(&arguments)
            .env("MIMIR_SERVER_URL", &hub.url())
            .env("MIMIR_ENROLLMENT_SECRET", &self.secret)
            .env("MONSYS_CA_FILE", ca_file.to_str().unwrap())
    }

    fn status(&self) -> Run {
        let status = self.host.agent(&["status", "--output", "json"]);
        status.env("MONSYS_DIALECT", "mimir").run()
    }

    fn spent(&self, hub: &TestHub) -> Value {
        let secrets = hub.get("mimir/enrollment-secrets");
        let active = secrets["active"].as_array().unwrap();
        let own = active.iter().find(|secret| secret["id"] == self.secret_id);
        own.unwrap()["uses"].clone()
    }
}

impl Case for Enrolment {
    fn host(&self) -> &TestHost {
        &self.host
    }

    fn command(&self, hub: &TestHub) -> Prepared {
        self.enrol(hub, self.arguments)
    }

    /// Each file is complete or absent.
    fn check_interrupted(&self, _: Option<&[u8]>, run: &Run) -> Result<(), String> {
        for (path, bytes) in self.host.files("etc/mimir") {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let text = String::from_utf8_lossy(&bytes);
            let is_complete = match name.as_str() {
                "client.pem" | "ca.pem" => text.ends_with("-----END CERTIFICATE-----\n"),
                "agent.json" => serde_json::from_str::<Value>(&text).is_ok(),
                name if name.starts_with("client.key") => {
                    text.ends_with("-----END PRIVATE KEY-----\n")
                }
                _ => true,
            };
            ensure(is_complete, &format!("{name} is torn"), run)?;
            ensure(
                !text.contains(&self.secret),
                "the secret is still there",
                run,
            )?;
        }
        ensure(
            run.code != 0 || self.status().code == 0,
            "success without a credential",
            run,
        )
    }

    fn check_next_run(&self, hub: &TestHub) -> Result<(), String> {
        let again = self.enrol(hub, &[]).run();
        ensure(again.code == 0, "the next run failed", &again)?;
        let status = self.status();
        ensure(status.code == 0, "it is not enrolled", &status)?;
        let agent = status.json()["agent_id"].clone();
        let expected = [
            ".monsys-enrol.lock",
            "agent.json",
            "ca.pem",
            "client.key",
            "client.pem",
        ];
        if self.host.names("etc/mimir") != expected {
            return Err(format!(
                "stray or missing files: {:?}",
                self.host.names("etc/mimir")
            ));
        }
        // Key and certificate belong together, and to the agent that used the one slot.
        let proof = self.enrol(hub, &["--force", "--output", "json"]).run();
        ensure(proof.code == 0, "the credential does not work", &proof)?;
        let is_same = proof.json()["agent_id"] == agent;
        ensure(is_same && self.spent(hub) == 1, "another agent", &proof)
    }
}
