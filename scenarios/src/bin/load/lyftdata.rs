//! `LyftData`: the shared secret, and a name for each host. The server replies only once, so a
//! host whose reply was lost is refused, and an admin removes the worker.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::dialect::{Dialect, OnDisk, Records, list};
use super::host::{Enrolled, Host, Ran};
use scenarios::hub::{Operator, text};
use xtask::error::{Result, Stop};

/// As `openssl rand -hex 32` prints one.
const SECRET: &str = "5707a15707a15707a15707a15707a15707a15707a15707a15707a15707a15707";
/// The key that every worker receives.
const API_KEY: &str = "key-of-the-load-test";
const WORKERS: &str = "/api/workers";

pub(crate) struct Lyftdata {
    url: String,
}

impl Dialect for Lyftdata {
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
        let parts = [
            "already exists",
            "a response to this host was lost",
            "an admin removes that worker",
        ];
        if !ran.refused(65, &parts) {
            return Ok(false);
        }
        let workers = operator.get(WORKERS).await?;
        let own = |worker: &&Value| worker["name"] == name(host.number).as_str();
        let own: Vec<&Value> = list(&workers).filter(own).collect();
        let [worker] = own[..] else {
            return Err(Stop::failed(format!(
                "host {}: a lost reply, and {} workers of its name",
                host.number,
                own.len()
            )));
        };
        let id = text(worker, "worker")?;
        operator.delete(&format!("{WORKERS}/{id}")).await?;
        Ok(true)
    }

    fn on_disk(&self, host: &Host) -> Result<OnDisk> {
        let file = |name: &str| host.read(&format!("var/lib/lyftdata-worker/{name}"));
        Ok(OnDisk {
            agent_id: file("LYFTDATA_WORKER_ID")?,
            credential: file(".LYFTDATA_WORKER_API_KEY")?,
        })
    }

    /// No call of the mock hub accepts the key: it has to be the one that was configured.
    async fn accepts(&self, _: &Operator, on_disk: &OnDisk) -> Result<bool> {
        Ok(on_disk.credential == API_KEY)
    }

    async fn records(&self, operator: &Operator, enrolled: &[Enrolled]) -> Result<Records> {
        let workers = operator.get(WORKERS).await?;
        let field = |worker: &Value, field: &str| text(worker, field).unwrap_or_default();
        let pairs: BTreeSet<(String, String)> = list(&workers)
            .map(|worker| (field(worker, "worker"), field(worker, "name")))
            .collect();
        let names: BTreeSet<&str> = pairs.iter().map(|(_, name)| name.as_str()).collect();
        Ok(Records {
            agents: list(&workers).count(),
            counts: vec![("names at the hub, no two the same", names.len())],
            known: enrolled
                .iter()
                .map(|host| (host.on_disk.agent_id.clone(), name(host.number)))
                .filter(|pair| pairs.contains(pair))
                .map(|(id, _)| id)
                .collect(),
            known_to: "of these, known to the hub by the host's own name",
        })
    }
}

fn name(number: usize) -> String {
    format!("load-{number}")
}
