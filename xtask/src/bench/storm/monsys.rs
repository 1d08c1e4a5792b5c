//! The monsys hub: one token with as many uses as hosts. A host asks again after a lost reply.

use std::collections::BTreeSet;

use serde_json::json;

use super::host::{Enrolled, Host};
use super::system::{Books, Held, System, number, texts};
use crate::error::{Context, Result};
use crate::hub::{Operator, text};

pub(super) struct Monsys {
    url: String,
    token_id: String,
    token: String,
}

impl System for Monsys {
    const ROUTE: &'static str = "enrol";
    const ALSO: &'static str = "uses";

    fn is_enrolment(path: &str) -> bool {
        path == "/api/v1/agents/enrol"
    }

    async fn prepare(operator: &Operator, url: &str, hosts: u32) -> Result<Self> {
        let wanted = json!({
            "name": "storm",
            "ttl_secs": 86_400,
            "max_uses": hosts,
            "default_tags": ["storm"],
        });
        let minted = operator.post("enrolment-tokens", &wanted).await?;
        Ok(Self {
            url: url.to_owned(),
            token_id: text(&minted, "id")?,
            token: text(&minted, "token")?,
        })
    }

    fn variables(&self, _: &Host) -> Vec<(&'static str, String)> {
        vec![
            ("MONSYS_HUB_URL", self.url.clone()),
            ("MONSYS_TOKEN", self.token.clone()),
        ]
    }

    fn held(&self, host: &Host) -> Result<Held> {
        const FILE: &str = "etc/monsys/agent.toml";
        let file: toml::Table = host.read(FILE)?.parse().context(|| host.what(FILE))?;
        let value = |key: &str| {
            let value = file.get(key).and_then(toml::Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        Ok(Held {
            agent_id: value("agent_id"),
            credential: value("agent_token"),
        })
    }

    async fn takes(&self, operator: &Operator, held: &Held) -> Result<bool> {
        operator.knows(&held.agent_id, &held.credential).await
    }

    async fn books(&self, operator: &Operator, _: &[Enrolled]) -> Result<Books> {
        let id = &self.token_id;
        let token = operator.get(&format!("enrolment-tokens/{id}")).await?;
        let audit = operator.get(&format!("enrolment-tokens/{id}/uses")).await?;
        let agents = operator.get("agents").await?;
        let audit = texts(&audit["uses"], "agent_id");
        let agents = texts(&agents["agents"], "agent_id");
        let audited: BTreeSet<&str> = audit.iter().copied().collect();
        let is_known = |id: &&&str| audited.contains(**id);
        Ok(Books {
            agents: agents.len(),
            counts: vec![
                ("uses of the token", number(&token, "uses")),
                ("rows of the audit", audit.len()),
            ],
            known: agents
                .iter()
                .filter(is_known)
                .map(|&id| id.into())
                .collect(),
            known_to: "of these, known to hub and audit",
        })
    }
}
