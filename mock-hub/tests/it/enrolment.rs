//! Enrolment: exactly once, never more often than the token allows.

use crate::clients::{Agent, Caller, Host, hub, text};
use serde_json::json;
use std::sync::Arc;
use tokio::task::JoinSet;

#[tokio::test]
async fn a_new_host_gets_a_credential_and_the_defaults() {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    let defaults = json!({"default_tags": ["prod", "eu-west", "prod"], "default_role": "web"});
    let created = operator.create_token(2, defaults).await;
    let host = Host::new().with("tags", json!(["shard-3", "eu-west", "shard-3"]));

    let (status, body) = host.enrol(&operator, &created.token).await;
    assert_eq!(status, 201);
    assert_eq!(body["default_tags"], json!(["prod", "eu-west"]));
    assert_eq!(body["default_role"], "web");
    assert_eq!(body["tags"], json!(["prod", "eu-west", "shard-3"]));
    assert_eq!(body["role"], "web");
    assert_eq!(body["heartbeat_interval_secs"], 30);
    let token = text(&body, "agent_token");
    assert!(
        token.starts_with("agt_") && token.len() == 47,
        "{}",
        token.len()
    );

    let (_, audit) = operator.get(&format!("{}/uses", created.path)).await;
    assert_eq!(audit["uses"][0]["agent_id"], body["agent_id"]);
    assert_eq!(audit["uses"][0]["source_ip"], "127.0.0.1");
    let (_, agent) = operator
        .get(&format!("/api/v1/agents/{}", text(&body, "agent_id")))
        .await;
    assert_eq!(agent["facts"]["hostname"], "web-1");
    assert_eq!(agent["signing_pubkey"], host.body["signing_pubkey"]);

    let (_, body) = Host::new()
        .with("role", json!("db"))
        .enrol(&operator, &created.token)
        .await;
    assert_eq!(
        (&body["role"], &body["default_role"]),
        (&json!("db"), &json!("web"))
    );
    hub.stop().await;
}

#[tokio::test]
async fn white_space_around_tags_and_roles_is_dropped_and_blank_ones_are_not_given() {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    let defaults = json!({"default_tags": [" db ", "  ", "db"], "default_role": " web\u{a0}"});
    let created = operator.create_token(2, defaults.clone()).await;
    let (_, minted) = operator.get(&created.path).await;
    assert_eq!(minted["default_tags"], json!(["db"]));
    assert_eq!(minted["default_role"], "web");
    let host = Host::new()
        .with("tags", json!([" db", "", "shard-3 "]))
        .with("role", json!("\u{3000}"));
    let (_, body) = host.enrol(&operator, &created.token).await;
    assert_eq!(body["tags"], json!(["db", "shard-3"]));
    assert_eq!(body["role"], "web");
    let host = Host::new().with("role", json!(" cache "));
    let click = crate::clients::click(&operator, &defaults).await;
    let (_, body) = host.register(&operator, &click.token).await;
    assert_eq!(
        (&body["tags"], &body["role"]),
        (&json!(["db"]), &json!("cache"))
    );
    hub.stop().await;
}

#[tokio::test]
async fn the_same_host_is_the_same_agent_even_when_the_token_is_used_up() {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    let created = operator.create_token(1, json!({})).await;
    let host = Host::new();
    let first = Agent::enrol(&host, &operator, &created.token).await;
    assert_eq!(Host::new().enrol(&operator, &created.token).await.0, 401);

    let moved = host
        .with("tags", json!(["moved"]))
        .with("hostname", json!("web-9"));
    let (status, body) = moved.enrol(&operator, &created.token).await;
    assert_eq!(status, 200);
    assert_eq!(body["agent_id"], first.id);
    assert_ne!(body["agent_token"], first.token);
    assert_eq!(operator.uses(&created).await, (1, 1));

    assert_eq!(
        moved.register(&operator, &first.token).await.0,
        401,
        "the old token is rejected"
    );
    assert_eq!(
        moved
            .register(&operator, &text(&body, "agent_token"))
            .await
            .0,
        200
    );
    let (_, agent) = operator.get(&format!("/api/v1/agents/{}", first.id)).await;
    assert_eq!(agent["facts"]["hostname"], "web-9");
    assert_eq!(agent["tags"], json!(["moved"]));
    hub.stop().await;
}

#[tokio::test]
async fn another_token_admits_the_same_agent_for_one_use_of_its_own() {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    let (first, second) = (
        operator.create_token(1, json!({})).await,
        operator
            .create_token(1, json!({"default_role": "db"}))
            .await,
    );
    let host = Host::new();
    let agent = Agent::enrol(&host, &operator, &first.token).await;
    let (status, body) = host.enrol(&operator, &second.token).await;
    assert_eq!((status, text(&body, "agent_id")), (200, agent.id));
    assert_eq!(body["role"], "db");
    assert_eq!(operator.uses(&second).await, (1, 1));
    assert_eq!(operator.agent_count().await, 1);

    let used_up = operator.create_token(1, json!({})).await;
    Agent::enrol(&Host::new(), &operator, &used_up.token).await;
    assert_eq!(host.enrol(&operator, &used_up.token).await.0, 401);
    assert_eq!(operator.uses(&used_up).await, (1, 1));
    // A token that has admitted this host before needs no further use.
    assert_eq!(host.enrol(&operator, &first.token).await.0, 200);
    assert_eq!(operator.uses(&first).await, (1, 1));
    hub.stop().await;
}

#[tokio::test]
async fn a_deleted_agents_key_is_free() {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    let created = operator.create_token(2, json!({})).await;
    let host = Host::new();
    let first = Agent::enrol(&host, &operator, &created.token).await;
    assert_eq!(host.unenrol(&operator, &first).await.0, 204);
    assert_eq!(host.unenrol(&operator, &first).await.0, 401);

    let (status, body) = host.enrol(&operator, &created.token).await;
    assert_eq!(status, 201);
    assert_ne!(text(&body, "agent_id"), first.id);
    assert_eq!(
        operator.uses(&created).await,
        (2, 2),
        "the audit outlives the agent"
    );
    assert_eq!(operator.agent_count().await, 1);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_hosts_at_once_and_fifty_uses() {
    let hub = hub().await;
    let operator = Arc::new(Caller::of(&hub));
    let created = Arc::new(operator.create_token(50, json!({})).await);
    let mut hosts = JoinSet::new();
    for _ in 0..100 {
        let (operator, created) = (Arc::clone(&operator), Arc::clone(&created));
        hosts.spawn(async move { Host::new().enrol(&operator, &created.token).await.0 });
    }
    let statuses = hosts.join_all().await;
    let count = |status| statuses.iter().filter(|given| **given == status).count();
    assert_eq!((count(201), count(401)), (50, 50));
    assert_eq!(operator.uses(&created).await, (50, 50));
    assert_eq!(operator.agent_count().await, 50);
    assert_eq!(operator.get(&created.path).await.1["status"], "exhausted");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_host_twenty_times_at_once_takes_one_use() {
    let hub = hub().await;
    let operator = Arc::new(Caller::of(&hub));
    let created = Arc::new(operator.create_token(50, json!({})).await);
    let host = Arc::new(Host::new());
    let mut tries = JoinSet::new();
    for _ in 0..20 {
        let (operator, created, host) = (
            Arc::clone(&operator),
            Arc::clone(&created),
            Arc::clone(&host),
        );
        tries.spawn(async move { host.enrol(&operator, &created.token).await });
    }
    let answers = tries.join_all().await;
    assert_eq!(
        answers.iter().filter(|(status, _)| *status == 201).count(),
        1
    );
    assert_eq!(
        answers.iter().filter(|(status, _)| *status == 200).count(),
        19
    );
    assert!(
        answers
            .iter()
            .all(|(_, body)| body["agent_id"] == answers[0].1["agent_id"])
    );
    assert_eq!(operator.uses(&created).await, (1, 1));
    hub.stop().await;
}
