//! Readmissions that the hub refuses: each gets the plain 401.

use super::site::{
    DOOR, Enrolled, ORIGIN, Site, caller, enrol, open, opened, readmit, refused, request, send,
};
use crate::clients::{Host, hub_with, text};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use mock_hub::Options;
use serde_json::{Value, json};
use std::fs;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

#[tokio::test]
async fn every_refusal_is_the_plain_401() {
    let site = Site::new();
    let (hub, operator) = site.start().await;
    let enrolled = enrol(&operator).await;
    let (host, receipt) = (&enrolled.host, enrolled.receipt.as_str());
    let other_site = Site::new();
    let (other_hub, other_operator) = other_site.start().await;
    let elsewhere = enrol(&other_operator).await;
    other_hub.stop().await;
    hub.stop().await;
    site.lose_database();

    // The same key under another URL is another hub.
    let moved = Options {
        public_urls: vec!["https://other.example.com".parse().expect("an origin")],
        ..site.options()
    };
    let hub = hub_with(moved).await;
    opened(&caller(&hub), json!({})).await;
    let sent = request(host, receipt, "https://other.example.com", 0);
    refused(&hub, "another issuer", &sent).await;
    hub.stop().await;

    let (hub, operator) = site.start().await;
    opened(&operator, json!({})).await;
    let stranger = Host::new();
    let parts: Vec<&str> = receipt.split('.').collect();
    let payload = URL_SAFE_NO_PAD.decode(parts[2]).expect("base64");
    let payload = String::from_utf8(payload).expect("text");
    let forged = URL_SAFE_NO_PAD.encode(payload.replace("\"web\"", "\"db\""));
    let forged = format!("v1.{}.{forged}.{}", parts[1], parts[3]);
    for (cause, sent) in [
        ("stolen", request(&stranger, receipt, ORIGIN, 0)),
        (
            "another hub's key",
            request(&elsewhere.host, &elsewhere.receipt, ORIGIN, 0),
        ),
        (
            "another origin",
            request(host, receipt, "https://evil.example", 0),
        ),
        ("forged", request(host, &forged, ORIGIN, 0)),
        (
            "truncated",
            request(host, &receipt[..receipt.len() - 1], ORIGIN, 0),
        ),
        ("empty", request(host, "", ORIGIN, 0)),
        ("too long", request(host, &"v1.".repeat(30_000), ORIGIN, 0)),
        ("late", request(host, receipt, ORIGIN, -301)),
        ("early", request(host, receipt, ORIGIN, 302)),
    ] {
        refused(&hub, cause, &sent).await;
    }
    // The body's own signature, and another host's.
    let mut sent = request(host, receipt, ORIGIN, 0);
    sent.signature = host.sign(&sent.body);
    refused(&hub, "signed as an enrolment", &sent).await;
    sent.signature = request(&stranger, receipt, ORIGIN, 0).signature;
    refused(&hub, "another's signature", &sent).await;
    assert_eq!(operator.agent_count().await, 0);

    assert!(operator.anomalies(&enrolled.agent.id).await.is_empty());
    // A clone: the same key on another machine.
    let mut body = host.body.clone();
    body["machine_fingerprint"] = json!("ff00");
    let sent = {
        let clone = host.clone_with(body);
        request(&clone, receipt, ORIGIN, 0)
    };
    refused(&hub, "another fingerprint", &sent).await;
    let kinds = operator.anomalies(&enrolled.agent.id).await;
    assert_eq!(kinds, ["readmission_mismatch"]);

    let sent = request(host, receipt, ORIGIN, 0);
    assert_eq!(send(&operator, &sent).await.0, 201);
    refused(&hub, "sent again", &sent).await;
    // The hour of the door, and then the 90 days of the receipt.
    hub.advance_clock(Duration::from_hours(1));
    assert_eq!(operator.get(DOOR).await.1["state"], "expired");
    refused(&hub, "door expired", &request(host, receipt, ORIGIN, 3_600)).await;
    hub.advance_clock(Duration::from_hours(90 * 24 - 1));
    opened(&operator, json!({})).await;
    let ahead = 90 * 24 * 3_600;
    refused(
        &hub,
        "receipt expired",
        &request(host, receipt, ORIGIN, ahead),
    )
    .await;
    hub.stop().await;
}

#[tokio::test]
async fn the_door_has_terms() {
    let site = Site::new();
    let (hub, operator) = site.start().await;
    let Enrolled { host, receipt, .. } = enrol(&operator).await;
    hub.stop().await;
    site.lose_database();
    let (hub, operator) = site.start().await;
    opened(&operator, json!({"allowed_cidrs": ["10.0.0.0/8"]})).await;
    refused(&hub, "address", &request(&host, &receipt, ORIGIN, 0)).await;
    opened(&operator, json!({"issued_before": "2020-01-01T00:00:00Z"})).await;
    refused(&hub, "issued later", &request(&host, &receipt, ORIGIN, 0)).await;
    for (field, value) in [
        ("open_for_secs", json!(0)),
        ("max_agents", json!(0)),
        ("issued_before", json!("yesterday")),
        ("allowed_cidrs", json!(["x"])),
    ] {
        let (status, refusal) = open(&operator, json!({field: value})).await;
        assert_eq!(status, 422);
        assert!(text(&refusal, "message").contains(field), "{refusal}");
    }
    let mut body = host.body.clone();
    body["receipt"] = json!(receipt);
    body["at"] = json!("yesterday");
    let (status, _) = operator.post("/api/v1/agents/readmit", &body).await;
    assert_eq!(status, 422);
    let terms = json!({"allowed_cidrs": ["127.0.0.0/8"], "issued_before": "2999-01-01T00:00:00Z"});
    opened(&operator, terms).await;
    assert_eq!(readmit(&operator, &host, &receipt).await.0, 201);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_the_cap_however_many_at_once() {
    let site = Site::new();
    let (hub, operator) = site.start().await;
    let mut all = Vec::new();
    for _ in 0..30 {
        all.push(enrol(&operator).await);
    }
    hub.stop().await;
    site.lose_database();
    let (hub, operator) = site.start().await;
    opened(&operator, json!({"max_agents": 20})).await;
    let operator = Arc::new(operator);
    let mut tries = JoinSet::new();
    for enrolled in all {
        let operator = Arc::clone(&operator);
        tries.spawn(async move {
            readmit(&operator, &enrolled.host, &enrolled.receipt)
                .await
                .0
        });
    }
    let statuses = tries.join_all().await;
    let count = |status| statuses.iter().filter(|seen| **seen == status).count();
    assert_eq!((count(201), count(401)), (20, 10));
    let (_, door) = operator.get(DOOR).await;
    assert_eq!(
        (text(&door, "state").as_str(), &door["readmitted"]),
        ("full", &json!(20))
    );
    hub.stop().await;
}

#[tokio::test]
async fn a_receipt_of_another_tenant_is_refused() {
    let site = Site::new();
    let (hub, operator) = site.start().await;
    let Enrolled { host, receipt, .. } = enrol(&operator).await;
    opened(&operator, json!({})).await;
    // Signed by the receipt key itself, whose seed is the end of its DER.
    let pem = fs::read_to_string(site.path("receipt.key")).expect("the key");
    let der = STANDARD
        .decode(pem.lines().nth(1).expect("base64"))
        .expect("base64");
    let key = ring::signature::Ed25519KeyPair::from_seed_unchecked(&der[16..]).expect("a seed");
    let resign = |change: &dyn Fn(&mut Value)| {
        let parts: Vec<&str> = receipt.split('.').collect();
        let payload = URL_SAFE_NO_PAD.decode(parts[2]).expect("base64");
        let mut payload: Value = serde_json::from_slice(&payload).expect("JSON");
        change(&mut payload);
        let signed = format!(
            "v1.{}.{}",
            parts[1],
            URL_SAFE_NO_PAD.encode(payload.to_string())
        );
        let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    };
    let other = resign(&|payload| payload["tenant"] = json!("other"));
    refused(&hub, "another tenant", &request(&host, &other, ORIGIN, 0)).await;
    // An id that another key holds.
    let holder = enrol(&operator).await;
    let stolen_id = resign(&|payload| payload["agent_id"] = json!(holder.agent.id));
    refused(&hub, "another's id", &request(&host, &stolen_id, ORIGIN, 0)).await;
    assert_eq!(
        operator.anomalies(&holder.agent.id).await,
        ["readmission_mismatch"]
    );
    let same = resign(&|_| {});
    assert_eq!(
        readmit(&operator, &host, &same).await.0,
        200,
        "all else was right"
    );
    hub.stop().await;
}
