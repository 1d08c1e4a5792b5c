//! What an agent does with its own token: register, heartbeat, leave; and rotation.

use crate::clients::{Agent, Caller, Host, answer, hub, sign_of_life, text};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// Now, as the wire wants it.
fn now() -> String {
    let seconds = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    let time = time::OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).expect("fits"))
        .expect("a time");
    format!(
        "{}T{:02}:{:02}:{:02}Z",
        time.date(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

/// A per-agent token, as one click makes it.
async fn click(operator: &Caller, body: &Value) -> Agent {
    let (status, made) = operator.post("/api/v1/agents", body).await;
    assert_eq!(status, 201, "{made}");
    Agent {
        id: text(&made, "agent_id"),
        token: text(&made, "token"),
    }
}

#[tokio::test]
async fn the_first_key_is_pinned_and_another_is_refused() {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    let agent = click(
        &operator,
        &json!({"default_tags": ["prod"], "default_role": "web"}),
    )
    .await;
    let host = Host::new().with("tags", json!(["own", "prod"]));

    let (status, first) = host.register(&operator, &agent.token).await;
    assert_eq!(status, 200);
    assert_eq!(first["agent_id"], agent.id);
    assert_eq!(
        (&first["tags"], &first["role"]),
        (&json!(["prod", "own"]), &json!("web"))
    );
    assert!(first.get("agent_token").is_none());
    assert_eq!(
        host.register(&operator, &agent.token).await,
        (200, first),
        "it is idempotent"
    );

    let (status, refused) = Host::new().register(&operator, &agent.token).await;
    assert_eq!(
        (status, text(&refused, "error").as_str()),
        (403, "signature_invalid")
    );
    assert_eq!(operator.anomalies(&agent.id).await, ["signature_invalid"]);
    let (_, list) = operator.get("/api/v1/integrity").await;
    assert_eq!(list["anomalies"][0]["severity"], "critical");

    let unknown = format!("agt_{}", "A".repeat(43));
    assert_eq!(host.register(&operator, &unknown).await.0, 401);
    hub.stop().await;
}

#[tokio::test]
async fn the_defaults_are_those_of_the_token_that_admitted_the_agent() {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    let minted = operator
        .mint(1, json!({"default_tags": ["prod"], "default_role": "web"}))
        .await;
    let host = Host::new();
    let agent = Agent::enrol(&host, &operator, &minted.token).await;
    let host = host.with("tags", json!(["new"])).with("role", json!("db"));
    let (status, body) = host.register(&operator, &agent.token).await;
    assert_eq!(
        (status, &body["default_tags"], &body["default_role"]),
        (200, &json!(["prod"]), &json!("web"))
    );
    assert_eq!(
        (&body["tags"], &body["role"]),
        (&json!(["prod", "new"]), &json!("db"))
    );
    assert_eq!(operator.uses(&minted).await, (1, 1));
    hub.stop().await;
}

#[tokio::test]
async fn a_key_belongs_to_one_agent() {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    let host = Host::new();
    let first = click(&operator, &json!({})).await;
    let second = click(&operator, &json!({"name": "second"})).await;
    assert_eq!(host.register(&operator, &first.token).await.0, 200);
    let (status, body) = host.register(&operator, &second.token).await;
    assert_eq!((status, text(&body, "error").as_str()), (409, "key_in_use"));

    let minted = operator.mint(1, json!({})).await;
    let (status, body) = host.enrol(&operator, &minted.token).await;
    assert_eq!(
        (status, text(&body, "agent_id")),
        (200, first.id),
        "the key is the identity"
    );
    hub.stop().await;
}

#[tokio::test]
async fn rotating_the_token_kills_the_old_one() {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    let agent = click(&operator, &json!({})).await;
    let host = Host::new();
    let path = format!("/api/v1/agents/{}/rotate-token", agent.id);
    let (status, rotated) = operator.post(&path, &json!({})).await;
    assert_eq!(status, 200);
    assert_eq!(host.register(&operator, &agent.token).await.0, 401);
    assert_eq!(
        host.register(&operator, &text(&rotated, "token")).await.0,
        200
    );
    hub.stop().await;
}

#[tokio::test]
async fn rotating_the_key_unpins_until_the_next_register() {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    let agent = click(&operator, &json!({})).await;
    let (old, new) = (Host::new(), Host::new());
    assert_eq!(old.register(&operator, &agent.token).await.0, 200);
    let path = format!("/api/v1/agents/{}", agent.id);
    assert_eq!(
        operator
            .post(&format!("{path}/rotate-signing-key"), &json!({}))
            .await
            .0,
        204
    );
    assert_eq!(operator.get(&path).await.1["signing_pubkey"], Value::Null);
    assert_eq!(new.register(&operator, &agent.token).await.0, 200);
    assert_eq!(old.register(&operator, &agent.token).await.0, 403);
    assert_eq!(
        operator.get(&path).await.1["signing_pubkey"],
        new.body["signing_pubkey"]
    );
    hub.stop().await;
}

#[tokio::test]
async fn a_stolen_token_without_the_key_pushes_nothing() {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    let agent = click(&operator, &json!({})).await;
    let host = Host::new();
    assert_eq!(host.register(&operator, &agent.token).await.0, 200);

    let path = format!("/api/v1/agents/{}", agent.id);
    let unsigned = operator
        .request(Method::POST, &format!("{path}/heartbeat"))
        .bearer_auth(&agent.token);
    let (status, body) = answer(unsigned.json(&sign_of_life(&now(), "0.2.0"))).await;
    assert_eq!(
        (status, text(&body, "error").as_str()),
        (403, "unsigned_payload")
    );
    let thief = Host::new();
    let forged = thief.heartbeat(&operator, &agent, &sign_of_life(&now(), "0.2.0"));
    let (status, body) = answer(forged).await;
    assert_eq!(
        (status, text(&body, "error").as_str()),
        (403, "signature_invalid")
    );
    assert_eq!(thief.leave(&operator, &agent).await.0, 403);
    let unsigned = operator
        .request(Method::DELETE, &path)
        .bearer_auth(&agent.token);
    assert_eq!(answer(unsigned).await.0, 403);
    let unsigned = operator
        .request(Method::POST, "/api/v1/agents/register")
        .bearer_auth(&agent.token);
    assert_eq!(answer(unsigned.json(&host.body)).await.0, 403);

    assert_eq!(
        operator.anomalies(&agent.id).await,
        ["unsigned_payload", "signature_invalid"]
    );
    let (_, list) = operator.get("/api/v1/integrity").await;
    assert_eq!(list["anomalies"][0]["occurrences"], 3);
    assert_eq!(operator.get(&path).await.1["last_heartbeat"], Value::Null);
    hub.stop().await;
}

#[tokio::test]
async fn heartbeats_are_kept_and_doubted() {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    let minted = operator.mint(1, json!({})).await;
    let host = Host::new();
    let agent = Agent::enrol(&host, &operator, &minted.token).await;
    let beat = async |captured_at: &str, version: &str| {
        answer(host.heartbeat(&operator, &agent, &sign_of_life(captured_at, version)))
            .await
            .0
    };
    assert_eq!(beat(&now(), "0.2.0").await, 204);
    assert!(operator.anomalies(&agent.id).await.is_empty());
    let path = format!("/api/v1/agents/{}", agent.id);
    assert_eq!(
        operator.get(&path).await.1["last_heartbeat"]["cpu_usage"],
        12.5
    );

    assert_eq!(beat(&now(), "0.1.9").await, 204);
    assert_eq!(operator.anomalies(&agent.id).await, ["version_downgrade"]);
    hub.advance_clock(Duration::from_mins(6));
    assert_eq!(beat(&now(), "0.2.0").await, 204);
    assert_eq!(
        operator.anomalies(&agent.id).await,
        ["version_downgrade", "clock_drift"]
    );
    assert_eq!(beat("yesterday", "0.2.0").await, 422);

    let other = Agent {
        id: agent.id.replace(|c: char| c.is_ascii_digit(), "0"),
        token: agent.token.clone(),
    };
    let elsewhere = host.heartbeat(&operator, &other, &sign_of_life(&now(), "0.2.0"));
    assert_eq!(
        answer(elsewhere).await.0,
        401,
        "the token is another agent's"
    );
    hub.stop().await;
}
