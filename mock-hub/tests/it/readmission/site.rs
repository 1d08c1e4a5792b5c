//! A hub whose files outlive it, and the requests of hosts that return to it.

use crate::clients::{Agent, Answer, Caller, Host, answer, hub_with, text};
use crate::raw::{exchange, post};
use mock_hub::{Hub, Options};
use reqwest::Method;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub(super) const ORIGIN: &str = "https://hub.example.com";
pub(super) const DOOR: &str = "/api/v1/readmission";

/// The files of a hub that outlive it.
pub(crate) struct Site {
    pub(crate) dir: TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn options(&self) -> Options {
        Options {
            database: Some(self.path("hub.db")),
            receipt_keys: vec![self.path("receipt.key")],
            revocations: Some(self.path("revocations")),
            public_urls: vec![ORIGIN.parse().expect("an origin")],
            ..Options::default()
        }
    }

    pub(super) async fn start(&self) -> (Hub, Caller) {
        let hub = hub_with(self.options()).await;
        let caller = caller(&hub);
        (hub, caller)
    }

    /// Makes the site of a hub that has enrolled a host, has saved its database, and has stopped.
    pub(super) async fn enrolled() -> (Self, Enrolled) {
        let site = Self::new();
        let (hub, operator) = site.start().await;
        let enrolled = enrol(&operator).await;
        hub.stop().await;
        site.save_database();
        (site, enrolled)
    }

    /// Starts the hub, and opens the door.
    pub(super) async fn start_open(&self) -> (Hub, Caller) {
        let (hub, operator) = self.start().await;
        opened(&operator, json!({})).await;
        (hub, operator)
    }

    pub(super) fn lose_database(&self) {
        for name in ["hub.db", "hub.db-wal", "hub.db-shm"] {
            let _ = fs::remove_file(self.path(name));
        }
    }

    pub(super) fn save_database(&self) {
        fs::copy(self.path("hub.db"), self.path("yesterday.db")).expect("a copy");
    }

    pub(super) fn restore_database(&self) {
        self.lose_database();
        fs::copy(self.path("yesterday.db"), self.path("hub.db")).expect("a copy");
    }
}

/// Returns a caller that comes by the public URL: the address is another one at each start.
pub(super) fn caller(hub: &Hub) -> Caller {
    let mut caller = Caller::of(hub);
    caller.host = Some("hub.example.com");
    caller
}

/// An enrolled host with its receipt.
pub(super) struct Enrolled {
    pub(super) host: Host,
    pub(super) agent: Agent,
    pub(super) receipt: String,
}

pub(super) async fn enrol(operator: &Caller) -> Enrolled {
    let defaults = json!({"default_tags": ["prod"], "default_role": "web"});
    let created = operator.create_token(1, defaults).await;
    let host = Host::new();
    let (status, body) = host.enrol(operator, &created.token).await;
    assert_eq!(status, 201, "{body}");
    Enrolled {
        agent: Agent {
            id: text(&body, "agent_id"),
            token: text(&body, "agent_token"),
        },
        receipt: text(&body, "receipt"),
        host,
    }
}

pub(super) async fn open(operator: &Caller, extra: Value) -> Answer {
    let mut body = json!({"open_for_secs": 3600, "max_agents": 100});
    for (field, value) in extra.as_object().expect("an object") {
        body[field] = value.clone();
    }
    operator.post(DOOR, &body).await
}

pub(super) async fn opened(operator: &Caller, extra: Value) {
    let (status, view) = open(operator, extra).await;
    assert_eq!((status, text(&view, "state").as_str()), (200, "open"));
}

/// A body and its signature.
pub(super) struct Request {
    pub(super) body: Vec<u8>,
    pub(super) signature: String,
}

/// Makes a readmission, `ahead` seconds in the future of this machine.
pub(super) fn request(host: &Host, receipt: &str, origin: &str, ahead: i64) -> Request {
    let now = OffsetDateTime::now_utc() + time::Duration::seconds(ahead);
    let mut body = host.body.clone();
    body["receipt"] = json!(receipt);
    body["at"] = json!(now.format(&Rfc3339).expect("a time"));
    let body = serde_json::to_vec(&body).expect("JSON");
    let hash = digest(&SHA256, &body);
    let message = [
        b"monsys-readmit-v1\0",
        origin.as_bytes(),
        b"\0",
        hash.as_ref(),
    ]
    .concat();
    Request {
        signature: host.sign_message(&message),
        body,
    }
}

pub(super) async fn send(caller: &Caller, request: &Request) -> Answer {
    let call = caller
        .request(Method::POST, "/api/v1/agents/readmit")
        .header("Content-Type", "application/json")
        .header("X-Monsys-Signature", &request.signature)
        .body(request.body.clone());
    answer(call).await
}

pub(super) async fn readmit(operator: &Caller, host: &Host, receipt: &str) -> Answer {
    send(operator, &request(host, receipt, ORIGIN, 0)).await
}

/// Returns every byte of the answer but the date.
pub(super) async fn bytes(hub: &Hub, path: &str, request: &Request) -> String {
    let headers = [
        ("Content-Type", "application/json"),
        ("X-Monsys-Signature", request.signature.as_str()),
    ];
    let (answer, ended) = exchange(hub, &post(path, &headers, &request.body)).await;
    ended.expect("a proper end");
    let answer = String::from_utf8(answer).expect("text");
    let lines = answer.split("\r\n");
    let lines = lines.filter(|line| !line.to_ascii_lowercase().starts_with("date:"));
    lines.collect::<Vec<_>>().join("\r\n")
}

/// Asserts that the answer is the plain 401, byte for byte.
pub(super) async fn refused(hub: &Hub, cause: &str, request: &Request) {
    let plain = bytes(hub, "/api/v1/agents/enrol", request).await;
    assert!(
        plain.starts_with("HTTP/1.1 401 Unauthorized\r\n"),
        "{plain}"
    );
    let seen = bytes(hub, "/api/v1/agents/readmit", request).await;
    assert_eq!(seen, plain, "{cause}");
}
