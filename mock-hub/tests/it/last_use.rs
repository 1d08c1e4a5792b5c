//! The last use of agents and of enrolment tokens.

use crate::clients::{Agent, Caller, Host, answer, click, hub_with, text};
use crate::heartbeat::Fixture;
use mock_hub::Options;
use reqwest::RequestBuilder;
use serde_json::json;

/// A hub that trusts the addresses that this test reports as a proxy.
fn behind_a_proxy() -> Options {
    Options {
        trusted_proxies: vec!["127.0.0.1".parse().expect("a range")],
        ..Options::default()
    }
}

fn from(source: &str, call: RequestBuilder) -> RequestBuilder {
    call.header("X-Forwarded-For", source)
}

#[tokio::test]
async fn every_authenticated_call_of_an_agent_is_its_last_use_but_no_replay() {
    let mut fixture = Fixture::with(behind_a_proxy()).await;
    let mut before = text(&fixture.row().await, "last_seen_at");
    assert_eq!(text(&fixture.row().await, "last_source_ip"), "127.0.0.1");
    fixture.advance(60);
    let body = fixture.body(0);
    assert_eq!(
        answer(from("192.0.2.1", fixture.signed(&body))).await.0,
        204
    );
    let row = fixture.row().await;
    assert_eq!(text(&row, "last_source_ip"), "192.0.2.1");
    assert!(text(&row, "last_seen_at") > before, "{row}");
    before = text(&row, "last_seen_at");

    // Somebody has captured a heartbeat and sends it from elsewhere, soon and late.
    for error in ["replayed", "clock_drift"] {
        fixture.advance(60);
        let (status, refused) = answer(from("203.0.113.9", fixture.signed(&body))).await;
        assert_eq!((status, text(&refused, "error").as_str()), (409, error));
        assert_eq!(fixture.row().await, row);
        fixture.advance(600);
    }
    let token = fixture.agent.token.clone();
    let call = fixture
        .host
        .registration(&fixture.operator, "register", &token);
    assert_eq!(answer(from("2001:db8::1", call)).await.0, 200);
    let row = fixture.row().await;
    assert_eq!(text(&row, "last_source_ip"), "2001:db8::1");
    assert!(text(&row, "last_seen_at") > before, "{row}");

    // A token without the key is a thief's, and the hub's operator is not an agent.
    fixture.advance(60);
    let thief = Host::new().registration(&fixture.operator, "register", &token);
    assert_eq!(answer(from("203.0.113.9", thief)).await.0, 403);
    let (_, list) = fixture.operator.get("/api/v1/agents").await;
    assert_eq!(list["agents"], json!([row]));

    let clicked = click(&fixture.operator, &json!({})).await;
    let path = format!("/api/v1/agents/{}", clicked.id);
    let (_, unused) = fixture.operator.get(&path).await;
    assert!(unused["last_seen_at"].is_null() && unused["last_source_ip"].is_null());
    fixture.hub.stop().await;
}

#[tokio::test]
async fn a_repeated_enrolment_is_a_tokens_last_use_and_spends_nothing() {
    let hub = hub_with(behind_a_proxy()).await;
    let operator = Caller::of(&hub);
    let created = operator.create_token(2, json!({})).await;
    let (_, unused) = operator.get(&created.path).await;
    for field in ["last_used_at", "last_used_by", "last_used_from"] {
        assert!(
            unused.get(field).is_some_and(serde_json::Value::is_null),
            "{field}"
        );
    }
    let (first, second) = (Host::new(), Host::new());
    let mut used = Vec::new();
    for (host, source) in [
        (&first, "192.0.2.1"),
        (&second, "192.0.2.2"),
        (&first, "192.0.2.3"),
    ] {
        hub.advance_clock(std::time::Duration::from_mins(1));
        let call = host.registration(&operator, "enrol", &created.token);
        let (_, enrolled) = answer(from(source, call)).await;
        let (_, token) = operator.get(&created.path).await;
        assert_eq!(token["last_used_by"], enrolled["agent_id"]);
        assert_eq!(text(&token, "last_used_from"), source);
        used.push(text(&token, "last_used_at"));
    }
    assert!(
        used.is_sorted_by(|before, after| before < after),
        "{used:?}"
    );
    // A refused enrolment is not a use.
    assert_eq!(Host::new().enrol(&operator, &created.token).await.0, 401);
    assert_eq!(operator.uses(&created).await, (2, 2));
    let (_, list) = operator.get("/api/v1/enrolment-tokens").await;
    assert_eq!(list["enrolment_tokens"][0]["last_used_at"], json!(used[2]));
    let (_, audit) = operator.get(&format!("{}/uses", created.path)).await;
    let row = &audit["uses"][0];
    assert_eq!(
        (text(row, "used_at"), text(row, "source_ip")),
        (used[0].clone(), "192.0.2.1".into())
    );
    assert_eq!(
        (text(row, "last_used_at"), text(row, "last_source_ip")),
        (used[2].clone(), "192.0.2.3".into())
    );
    // The audit outlives the agent.
    let agent = Agent::enrol(&first, &operator, &created.token).await;
    assert_eq!(first.unenrol(&operator, &agent).await.0, 204);
    let (_, token) = operator.get(&created.path).await;
    assert_eq!(text(&token, "last_used_by"), agent.id);
    hub.stop().await;
}
