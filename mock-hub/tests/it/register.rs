//! Registration with an agent's own token, and rotation of token and key.

use crate::clients::{Agent, Caller, Host, click, hub, text};
use serde_json::{Value, json};

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
    let created = operator
        .create_token(1, json!({"default_tags": ["prod"], "default_role": "web"}))
        .await;
    let host = Host::new();
    let agent = Agent::enrol(&host, &operator, &created.token).await;
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
    assert_eq!(operator.uses(&created).await, (1, 1));
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

    let created = operator.create_token(1, json!({})).await;
    let (status, body) = host.enrol(&operator, &created.token).await;
    assert_eq!(
        (status, text(&body, "agent_id")),
        (200, first.id),
        "the key is the identity"
    );
    hub.stop().await;
}

#[tokio::test]
async fn rotating_the_token_revokes_the_old_one() {
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
