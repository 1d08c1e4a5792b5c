//! The one 401: every cause gives the same bytes.

use crate::clients::{Agent, Caller, Host, hub, hub_with};
use crate::raw::{exchange, post};
use mock_hub::Options;
use serde_json::json;
use std::time::Duration;

/// Returns the response to an enrolment as bytes, without the one header that may differ.
async fn enrol(hub: &mock_hub::Hub, headers: &[(&str, &str)], body: &[u8]) -> String {
    let mut all = vec![("Content-Type", "application/json")];
    all.extend(headers);
    let (answer, ended) = exchange(hub, &post("/api/v1/agents/enrol", &all, body)).await;
    ended.expect("a proper end");
    let answer = String::from_utf8(answer).expect("text");
    let is_date = |line: &&str| line.to_ascii_lowercase().starts_with("date:");
    assert_eq!(answer.split("\r\n").filter(is_date).count(), 1);
    answer
        .split("\r\n")
        .filter(|line| !is_date(line))
        .collect::<Vec<_>>()
        .join("\r\n")
}

async fn every_cause(options: Options) {
    let hub = hub_with(options).await;
    let operator = Caller::of(&hub);
    let host = Host::new();
    let body = serde_json::to_vec(&host.body).expect("JSON");
    let signature = host.sign(&body);

    let expired = operator.create_token(9, json!({})).await;
    hub.advance_clock(Duration::from_secs(3_601));
    let good = operator.create_token(9, json!({})).await;
    let revoked = operator.create_token(9, json!({})).await;
    operator
        .post(&format!("{}/revoke", revoked.path), &json!({}))
        .await;
    let used_up = operator.create_token(1, json!({})).await;
    Agent::enrol(&Host::new(), &operator, &used_up.token).await;
    let elsewhere = operator
        .create_token(9, json!({"allowed_cidrs": ["10.0.0.0/8", "::/0"]}))
        .await;
    let all_at_once = operator
        .create_token(9, json!({"allowed_cidrs": ["10.0.0.0/8"]}))
        .await;
    operator
        .post(&format!("{}/revoke", all_at_once.path), &json!({}))
        .await;

    let unknown = format!("enrl_{}", "A".repeat(43));
    let mut seen = Vec::new();
    for token in [
        &unknown,
        &expired.token,
        &revoked.token,
        &used_up.token,
        &elsewhere.token,
        &all_at_once.token,
        "enrl_short",
        "agt_x",
        "",
    ] {
        let bearer = format!("Bearer {token}");
        let headers = [
            ("Authorization", bearer.as_str()),
            ("X-Monsys-Signature", &signature),
        ];
        seen.push((
            format!("token {}", token.len()),
            enrol(&hub, &headers, &body).await,
        ));
    }
    let bearer = format!("Bearer {}", good.token);
    let wrong = Host::new().sign(&body);
    for (cause, headers) in [
        (
            "no authorisation",
            vec![("X-Monsys-Signature", signature.as_str())],
        ),
        (
            "another scheme",
            vec![
                ("Authorization", "Basic eDp5"),
                ("X-Monsys-Signature", &signature),
            ],
        ),
        ("unsigned", vec![("Authorization", &bearer)]),
        (
            "another's signature",
            vec![("Authorization", &bearer), ("X-Monsys-Signature", &wrong)],
        ),
        (
            "no signature at all",
            vec![("Authorization", &bearer), ("X-Monsys-Signature", "!")],
        ),
    ] {
        seen.push((cause.to_owned(), enrol(&hub, &headers, &body).await));
    }

    assert!(
        seen[0].1.starts_with("HTTP/1.1 401 Unauthorized\r\n"),
        "{}",
        seen[0].1
    );
    for (cause, answer) in &seen {
        assert_eq!(answer, &seen[0].1, "{cause}");
    }
    assert_eq!(
        operator.uses(&good).await,
        (0, 0),
        "a refused attempt costs nothing"
    );
    let headers = [
        ("Authorization", bearer.as_str()),
        ("X-Monsys-Signature", &signature),
    ];
    assert!(
        enrol(&hub, &headers, &body)
            .await
            .starts_with("HTTP/1.1 201 "),
        "all else was right"
    );
    hub.stop().await;
}

#[tokio::test]
async fn every_cause_gives_the_same_bytes_over_tls() {
    every_cause(Options::default()).await;
}

#[tokio::test]
async fn every_cause_gives_the_same_bytes_over_http() {
    every_cause(Options {
        http: true,
        ..Options::default()
    })
    .await;
}

#[tokio::test]
async fn a_host_enrolled_before_is_refused_for_the_same_causes() {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    let host = Host::new();
    let created = operator.create_token(1, json!({})).await;
    let agent = Agent::enrol(&host, &operator, &created.token).await;
    operator
        .post(&format!("{}/revoke", created.path), &json!({}))
        .await;
    assert_eq!(host.enrol(&operator, &created.token).await.0, 401);
    assert_eq!(
        host.register(&operator, &agent.token).await.0,
        200,
        "its agent keeps working"
    );

    let other = Host::new();
    let created_later = operator.create_token(1, json!({})).await;
    Agent::enrol(&other, &operator, &created_later.token).await;
    hub.advance_clock(Duration::from_hours(1));
    assert_eq!(other.enrol(&operator, &created_later.token).await.0, 401);

    assert_eq!(operator.get(&created.path).await.1["status"], "revoked");
    assert_eq!(
        operator.get(&created_later.path).await.1["status"],
        "expired"
    );
    hub.stop().await;
}
