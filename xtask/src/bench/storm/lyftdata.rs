//! `LyftData`: the shared secret, and a name for each host. The server gives an answer only once, so
//! a host whose answer was lost is refused, and an admin removes the worker that never worked.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::host::{Enrolled, Host, Ran};
use super::system::{Books, Held, System, list};
use crate::error::{Result, Stop};
use crate::hub::{Operator, text};

/// As `openssl rand -hex 32` prints one.
const SECRET: &str = "5707a15707a15707a15707a15707a15707a15707a15707a15707a15707a15707";
/// The key that every worker is given.
const API_KEY: &str = "key-of-the-storm";
const WORKERS: &str = "/api/workers";

pub(super) struct Lyftdata {
    url: String,
}

impl System for Lyftdata {
    const ROUTE: &'static str = "lyftdata-enroll";
    const ALSO: &'static str = "names";

    fn is_enrolment(path: &str) -> bool {
        path == "/api/workers/enroll"
    }

    async fn prepare(operator: &Operator, url: &str, _: u32) -> Result<Self> {
        let wanted = json!({
            "enabled": true,
            "enrollment_secret": SECRET,
            "enrollment_api_key": API_KEY,
        });
        operator
            .post("/api/workers/auto-enrollment", &wanted)
            .await?;
        Ok(Self {
            url: url.to_owned(),
        })
    }

    fn variables(&self, host: &Host) -> Vec<(&'static str, String)> {
        vec![
            ("LYFTDATA_URL", self.url.clone()),
            ("LYFTDATA_WORKER_NAME", name(host.number)),
            ("LYFTDATA_AUTO_ENROLLMENT_KEY", SECRET.to_owned()),
        ]
    }

    async fn fix(&self, operator: &Operator, host: &Host, ran: &Ran) -> Result<bool> {
        let told = [
            "already exists",
            "a response to this host was lost",
            "an admin removes that worker",
        ];
        if !ran.refused(65, &told) {
            return Ok(false);
        }
        let workers = operator.get(WORKERS).await?;
        let own = |worker: &&Value| worker["name"] == name(host.number).as_str();
        let own: Vec<&Value> = list(&workers).filter(own).collect();
        let [worker] = own[..] else {
            return Err(Stop::failed(format!(
                "host {}: a lost answer, and {} workers of its name",
                host.number,
                own.len()
            )));
        };
        let id = text(worker, "worker")?;
        operator.delete(&format!("{WORKERS}/{id}")).await?;
        Ok(true)
    }

    fn held(&self, host: &Host) -> Result<Held> {
        let file = |name: &str| host.read(&format!("var/lib/lyftdata-worker/{name}"));
        Ok(Held {
            agent_id: file("LYFTDATA_WORKER_ID")?,
            credential: file(".LYFTDATA_WORKER_API_KEY")?,
        })
    }

    /// No call of the mock hub takes the key: the one that was configured is the one that is good.
    async fn takes(&self, _: &Operator, held: &Held) -> Result<bool> {
        Ok(held.credential == API_KEY)
    }

    async fn books(&self, operator: &Operator, enrolled: &[Enrolled]) -> Result<Books> {
        let workers = operator.get(WORKERS).await?;
        let field = |worker: &Value, field: &str| text(worker, field).unwrap_or_default();
        let pairs: BTreeSet<(String, String)> = list(&workers)
            .map(|worker| (field(worker, "worker"), field(worker, "name")))
            .collect();
        let names: BTreeSet<&str> = pairs.iter().map(|(_, name)| name.as_str()).collect();
        Ok(Books {
            agents: list(&workers).count(),
            counts: vec![("names at the hub, no two the same", names.len())],
            known: enrolled
                .iter()
                .map(|host| (host.held.agent_id.clone(), name(host.number)))
                .filter(|pair| pairs.contains(pair))
                .map(|(id, _)| id)
                .collect(),
            known_to: "of these, known to the hub by the host's own name",
        })
    }
}

fn name(number: usize) -> String {
    format!("storm-{number}")
}
