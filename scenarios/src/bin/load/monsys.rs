//! The monsys hub: one token with as many uses as hosts. A host repeats its request after a lost reply.

use std::collections::BTreeSet;

use serde_json::json;

use super::dialect::{Dialect, OnDisk, Records, number, texts};
use super::host::{Enrolled, Host};
use scenarios::hub::{Operator, text};
use xtask::error::{Context, Result};

pub(crate) struct Monsys {
    url: String,
    token_id: String,
    token: String,
}

impl Dialect for Monsys {
    const ROUTE: &'static str = "enrol";
    const ALSO: &'static str = "uses";

    fn is_enrolment(path: &str) -> bool {
        path == "/api/v1/agents/enrol"
    }

    async fn prepare(operator: &Operator, url: &str, hosts: u32) -> Result<Self> {
        let wanted = json!({
            "name": "load",
            "ttl_secs": 86_400,
            "max_uses": hosts,
            "default_tags": ["load"],
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

    fn on_disk(&self, host: &Host) -> Result<OnDisk> {
        const FILE: &str = "etc/monsys/agent.toml";
        let file: toml::Table = host.read(FILE)?.parse().context(|| host.what(FILE))?;
        let value = |key: &str| {
            let value = file.get(key).and_then(toml::Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        Ok(OnDisk {
            agent_id: value("agent_id"),
            credential: value("agent_token"),
        })
    }

    async fn accepts(&self, operator: &Operator, on_disk: &OnDisk) -> Result<bool> {
        operator
            .accepts_credential(&on_disk.agent_id, &on_disk.credential)
            .await
    }

    async fn records(&self, operator: &Operator, _: &[Enrolled]) -> Result<Records> {
        let id = &self.token_id;
        let token = operator.get(&format!("enrolment-tokens/{id}")).await?;
        let audit = operator.get(&format!("enrolment-tokens/{id}/uses")).await?;
        let agents = operator.get("agents").await?;
        let audit = texts(&audit["uses"], "agent_id");
        let agents = texts(&agents["agents"], "agent_id");
        let audited: BTreeSet<&str> = audit.iter().copied().collect();
        let is_known = |id: &&&str| audited.contains(**id);
        Ok(Records {
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
