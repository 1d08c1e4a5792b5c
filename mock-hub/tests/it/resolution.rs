//! Anomalies are open until an operator resolves them, and stay after that.

use crate::clients::{Agent, Caller, CreatedToken, Host, answer, hub, text};
use mock_hub::Hub;
use reqwest::Method;
use serde_json::{Value, json};

const LIST: &str = "/api/v1/integrity";

struct Fixture {
    hub: Hub,
    operator: Caller,
    created: CreatedToken,
    host: Host,
    agent: Agent,
}

impl Fixture {
    async fn new() -> Self {
        let hub = hub().await;
        let operator = Caller::of(&hub);
        let created = operator.create_token(9, json!({})).await;
        let host = Host::new();
        let agent = Agent::enrol(&host, &operator, &created.token).await;
        Self {
            hub,
            operator,
            created,
            host,
            agent,
        }
    }

    /// Makes a `signature_invalid` anomaly of the agent.
    async fn offend(&self, agent: &Agent) {
        let stranger = Host::new().register(&self.operator, &agent.token).await;
        assert_eq!(stranger.0, 403);
    }

    async fn list(&self, query: &str) -> Vec<Value> {
        let (status, list) = self.operator.get(&format!("{LIST}{query}")).await;
        assert_eq!(status, 200, "{list}");
        list["anomalies"].as_array().expect("a list").clone()
    }
}

fn resolve(row: &Value) -> String {
    format!("{LIST}/{}/resolve", row["id"])
}

#[tokio::test]
async fn a_resolved_anomaly_leaves_the_list_and_stays_in_the_trail() {
    let fixture = Fixture::new().await;
    fixture.offend(&fixture.agent).await;
    fixture.offend(&fixture.agent).await;
    let open = fixture.list("").await;
    assert_eq!(open.len(), 1);
    assert_eq!(
        (&open[0]["state"], &open[0]["occurrences"]),
        (&json!("open"), &json!(2))
    );
    for field in ["resolved_at", "resolved_by", "note"] {
        assert!(open[0][field].is_null(), "{field}");
    }
    let note = json!({"note": "a cloned disk: wiped"});
    let (status, resolved) = fixture.operator.post(&resolve(&open[0]), &note).await;
    assert_eq!(status, 200, "{resolved}");
    assert_eq!(text(&resolved, "state"), "resolved");
    assert_eq!(text(&resolved, "resolved_by"), "admin");
    assert_eq!(text(&resolved, "note"), "a cloned disk: wiped");
    assert!(text(&resolved, "resolved_at") >= text(&resolved, "last_seen_at"));

    assert_eq!(fixture.list("").await, Vec::<Value>::new());
    assert_eq!(fixture.list("?state=open").await, Vec::<Value>::new());
    assert_eq!(
        fixture.list("?state=resolved").await,
        std::slice::from_ref(&resolved)
    );
    assert_eq!(
        fixture.list("?state=all").await,
        std::slice::from_ref(&resolved)
    );

    let other = json!({"note": "another"});
    let again = fixture.operator.post(&resolve(&open[0]), &other).await;
    assert_eq!(again, (200, resolved.clone()), "the first resolution stays");

    fixture.offend(&fixture.agent).await;
    let new = fixture.list("").await;
    assert_eq!((new.len(), &new[0]["occurrences"]), (1, &json!(1)));
    assert_ne!(new[0]["id"], resolved["id"]);
    assert_eq!(fixture.list("?state=all").await, [resolved, new[0].clone()]);
    fixture.hub.stop().await;
}

#[tokio::test]
async fn the_trail_outlives_the_agent() {
    let fixture = Fixture::new().await;
    let other = Host::new();
    let other_agent = Agent::enrol(&other, &fixture.operator, &fixture.created.token).await;
    fixture.offend(&other_agent).await;
    fixture.offend(&fixture.agent).await;
    let of_agent = format!("?agent_id={}", fixture.agent.id);
    let open = fixture.list(&of_agent).await;
    assert_eq!(open.len(), 1);
    assert_eq!(text(&open[0], "agent_id"), fixture.agent.id);
    let left = fixture
        .host
        .unenrol(&fixture.operator, &fixture.agent)
        .await;
    assert_eq!(left.0, 204);
    assert_eq!(fixture.list(&of_agent).await, open);
    // A resolution needs no body at all.
    let call = fixture
        .operator
        .request(Method::POST, &resolve(&open[0]))
        .bearer_auth(fixture.hub.admin_token());
    let (status, resolved) = answer(call).await;
    assert_eq!((status, &resolved["note"]), (200, &Value::Null));
    assert_eq!(fixture.list(&of_agent).await, Vec::<Value>::new());
    assert_eq!(
        fixture.list(&format!("{of_agent}&state=all")).await,
        [resolved]
    );
    assert_eq!(fixture.list("?state=all").await.len(), 2);
    fixture.hub.stop().await;
}

#[tokio::test]
async fn a_wrong_query_or_note_or_id_is_refused() {
    let fixture = Fixture::new().await;
    fixture.offend(&fixture.agent).await;
    for query in [
        "?state=closed",
        "?state=",
        "?state=open&state=all",
        "?agent_id=web-1",
    ] {
        let (status, refused) = fixture.operator.get(&format!("{LIST}{query}")).await;
        assert_eq!(
            (status, text(&refused, "error").as_str()),
            (422, "invalid"),
            "{query}"
        );
    }
    let open = fixture.list("").await;
    for note in [json!("x".repeat(1_025)), json!("a\u{1b}[2J"), json!(7)] {
        let (status, _) = fixture
            .operator
            .post(&resolve(&open[0]), &json!({"note": note}))
            .await;
        assert_eq!(status, 422, "{note}");
    }
    for id in [
        "0",
        "-1",
        "99999999999999999999",
        "x",
        "%ff",
        &fixture.agent.id,
    ] {
        let path = format!("{LIST}/{id}/resolve");
        assert_eq!(
            fixture.operator.post(&path, &json!({})).await.0,
            404,
            "{id}"
        );
    }
    assert_eq!(fixture.list("").await, open, "nothing is resolved by that");
    fixture.hub.stop().await;
}
