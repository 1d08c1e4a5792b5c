//! The operator's calls: their authentication, and what they refuse.

use crate::clients::{Agent, Caller, Host, answer, hub, text};
use reqwest::Method;
use serde_json::{Value, json};

const TOKENS: &str = "/api/v1/enrolment-tokens";

#[tokio::test]
async fn only_the_admin_token_opens_them() {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    let created = operator.create_token(1, json!({})).await;
    let agent = Agent::enrol(&Host::new(), &operator, &created.token).await;
    let id = "00000000-0000-4000-8000-000000000000";
    let calls = [
        (Method::POST, TOKENS.to_owned()),
        (Method::GET, TOKENS.to_owned()),
        (Method::GET, format!("{TOKENS}/{id}")),
        (Method::POST, format!("{TOKENS}/{id}/revoke")),
        (Method::GET, format!("{TOKENS}/{id}/uses")),
        (Method::GET, "/api/v1/agents".to_owned()),
        (Method::POST, "/api/v1/agents".to_owned()),
        (Method::GET, format!("/api/v1/agents/{id}")),
        (Method::POST, format!("/api/v1/agents/{id}/rotate-token")),
        (
            Method::POST,
            format!("/api/v1/agents/{id}/rotate-signing-key"),
        ),
        (Method::POST, format!("/api/v1/agents/{id}/allow")),
        (Method::DELETE, format!("/api/v1/agents/{id}")),
        (Method::GET, "/api/v1/readmission".to_owned()),
        (Method::POST, "/api/v1/readmission".to_owned()),
        (Method::DELETE, "/api/v1/readmission".to_owned()),
        (Method::GET, "/api/v1/integrity".to_owned()),
        (Method::POST, "/api/v1/integrity/1/resolve".to_owned()),
        (Method::GET, "/api/v1/faults".to_owned()),
        (Method::POST, "/api/v1/faults".to_owned()),
        (Method::DELETE, "/api/v1/faults".to_owned()),
    ];
    for (method, path) in calls {
        for token in ["", "adm_wrong", &created.token, &agent.token] {
            let call = operator.request(method.clone(), &path).bearer_auth(token);
            assert_eq!(answer(call).await.0, 401, "{method} {path}");
        }
        assert_eq!(
            answer(operator.request(method.clone(), &path)).await.0,
            401,
            "{method} {path}"
        );
    }
    hub.stop().await;
}

#[tokio::test]
async fn a_token_is_shown_once() {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    let created = operator
        .create_token(
            3,
            json!({"name": "eu-west", "allowed_cidrs": ["127.9.9.9/8"]}),
        )
        .await;
    assert!(created.token.starts_with("enrl_") && created.token.len() == 48);
    let (status, token) = operator.get(&created.path).await;
    assert_eq!((status, text(&token, "status").as_str()), (200, "active"));
    assert_eq!(
        (text(&token, "name"), &token["uses"], &token["max_uses"]),
        ("eu-west".to_owned(), &json!(0), &json!(3))
    );
    assert_eq!(token["allowed_cidrs"], json!(["127.0.0.0/8"]));
    let (_, list) = operator.get(TOKENS).await;
    assert_eq!(list["enrolment_tokens"], json!([token]));
    assert!(!list.to_string().contains(&created.token));

    let (status, revoked) = operator
        .post(&format!("{}/revoke", created.path), &json!({}))
        .await;
    assert_eq!(
        (status, text(&revoked, "status").as_str()),
        (200, "revoked")
    );
    let again = operator
        .post(&format!("{}/revoke", created.path), &json!({}))
        .await;
    assert_eq!(again, (200, revoked), "revoking twice is as once");
    hub.stop().await;
}

#[tokio::test]
async fn a_token_outside_the_limits_is_not_made() {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    for (field, value) in [
        ("ttl_secs", json!(3_599)),
        ("ttl_secs", json!(2_592_001)),
        ("ttl_secs", json!(-1)),
        ("max_uses", json!(0)),
        ("max_uses", json!(u64::MAX)),
        ("name", json!("")),
        ("name", json!("a\nb")),
        ("name", json!("  ")),
        ("default_tags", json!(["a,b"])),
        ("default_role", json!("x".repeat(129))),
        ("allowed_cidrs", json!(["10.0.0.0/33"])),
        ("allowed_cidrs", json!(["localhost"])),
        ("allowed_cidrs", json!("10.0.0.0/8")),
    ] {
        let mut body = json!({"name": "n", "ttl_secs": 3_600, "max_uses": 1});
        body[field] = value.clone();
        let (status, refused) = operator.post(TOKENS, &body).await;
        assert_eq!(status, 422, "{field} {value}");
        assert!(
            text(&refused, "message").contains(field),
            "{field}: {refused}"
        );
    }
    assert_eq!(operator.get(TOKENS).await.1["enrolment_tokens"], json!([]));
    for ttl in [3_600, 2_592_000] {
        operator
            .create_token(
                1,
                json!({"ttl_secs": ttl, "default_role": " ", "allowed_cidrs": null}),
            )
            .await;
    }
    let (_, list) = operator.get(TOKENS).await;
    assert_eq!(
        list["enrolment_tokens"][0]["default_role"],
        Value::Null,
        "an empty role is none"
    );
    hub.stop().await;
}

#[tokio::test]
async fn an_unknown_id_is_not_found() {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    for id in ["00000000-0000-4000-8000-000000000000", "x", "%ff"] {
        for path in [
            format!("{TOKENS}/{id}"),
            format!("{TOKENS}/{id}/uses"),
            format!("/api/v1/agents/{id}"),
        ] {
            assert_eq!(operator.get(&path).await.0, 404, "{path}");
        }
        for path in [
            format!("{TOKENS}/{id}/revoke"),
            format!("/api/v1/agents/{id}/rotate-token"),
            format!("/api/v1/agents/{id}/rotate-signing-key"),
            format!("/api/v1/agents/{id}/allow"),
        ] {
            assert_eq!(operator.post(&path, &json!({})).await.0, 404, "{path}");
        }
    }
    hub.stop().await;
}
