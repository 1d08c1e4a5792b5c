//! Mimir: one secret with as many uses as hosts. A host repeats its request for the same key after
//! a lost reply, which spends no second use.

use serde_json::json;

use super::dialect::{Dialect, OnDisk, Records, list, number, texts};
use super::host::{Enrolled, Host};
use scenarios::hub::{Operator, text};
use xtask::error::{Context, Result, Stop};

pub(crate) struct Mimir {
    url: String,
    secret_id: String,
    secret: String,
}

impl Dialect for Mimir {
    const ROUTE: &'static str = "mimir-enroll";
    const ALSO: &'static str = "uses";

    fn is_enrolment(path: &str) -> bool {
        path == "/api/v1/enroll"
    }

    async fn prepare(operator: &Operator, url: &str, hosts: u32) -> Result<Self> {
        let wanted = json!({"name": "load", "max_uses": hosts});
        let minted = operator.post("mimir/enrollment-secrets", &wanted).await?;
        Ok(Self {
            url: url.to_owned(),
            secret_id: text(&minted, "id")?,
            secret: text(&minted, "secret")?,
        })
    }

    fn variables(&self, _: &Host) -> Vec<(&'static str, String)> {
        vec![
            ("MIMIR_SERVER_URL", self.url.clone()),
            ("MIMIR_ENROLLMENT_SECRET", self.secret.clone()),
        ]
    }

    fn on_disk(&self, host: &Host) -> Result<OnDisk> {
        const NOTES: &str = "etc/mimir/agent.json";
        let notes = host.read(NOTES)?;
        let notes = serde_json::from_str(&notes).context(|| host.what(NOTES))?;
        let [certificate, key] =
            ["client.pem", "client.key"].map(|name| host.read(&format!("etc/mimir/{name}")));
        Ok(OnDisk {
            agent_id: text(&notes, "agent_id")?,
            credential: certificate? + &key?,
        })
    }

    async fn accepts(&self, operator: &Operator, on_disk: &OnDisk) -> Result<bool> {
        let certificate = on_disk.credential.as_bytes();
        let known_as = operator.get_as("agent/self", certificate).await?;
        Ok(known_as.is_some_and(|agent| agent["agent_id"] == on_disk.agent_id.as_str()))
    }

    async fn records(&self, operator: &Operator, _: &[Enrolled]) -> Result<Records> {
        let secrets = operator.get("mimir/enrollment-secrets").await?;
        let secret = list(&secrets["active"])
            .find(|secret| secret["id"] == self.secret_id.as_str())
            .ok_or_else(|| Stop::failed("the hub does not list the secret any more"))?;
        let agents = operator.get("mimir/agents").await?;
        let agents = &agents["agents"];
        let seen = list(agents).filter(|agent| agent["last_seen_at"].is_string());
        Ok(Records {
            agents: list(agents).count(),
            counts: vec![
                ("uses of the secret", number(secret, "uses")),
                ("agents that have proved themselves", seen.count()),
            ],
            known: texts(agents, "agent_id")
                .into_iter()
                .map(str::to_owned)
                .collect(),
            known_to: "of these, known to the hub",
        })
    }
}
