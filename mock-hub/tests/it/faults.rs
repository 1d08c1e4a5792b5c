//! Each fault, as the host sees it.

use crate::clients::{Agent, Answer, Caller, Host, answer, hub, hub_with, read};
use crate::raw::{exchange, post};
use mock_hub::{Hub, Options};
use serde_json::{Value, json};
use std::io;

const FAULTS: &str = "/api/v1/faults";

/// Starts a hub with one token and one fault on the enrol route.
async fn with_fault(fault: Value) -> (Hub, Caller, crate::clients::CreatedToken) {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    let created = operator.create_token(5, json!({})).await;
    let mut body = json!({"route": "enrol"});
    for (field, value) in fault.as_object().expect("an object") {
        body[field] = value.clone();
    }
    operator.fault(body).await;
    (hub, operator, created)
}

/// Enrols once more, after the fault, and returns the status and the uses.
async fn after(
    hub: Hub,
    operator: Caller,
    created: crate::clients::CreatedToken,
    host: &Host,
) -> (u16, (u64, usize)) {
    let (status, _) = host.enrol(&operator, &created.token).await;
    let uses = operator.uses(&created).await;
    assert_eq!(operator.get(FAULTS).await.1, json!({"faults": []}));
    hub.stop().await;
    (status, uses)
}

#[tokio::test]
async fn a_status_comes_instead_of_the_hub() {
    let fault = json!({"status": 503, "retry_after": 7, "times": 2});
    let (hub, operator, created) = with_fault(fault).await;
    let host = Host::new();
    for _ in 0..2 {
        let response = host
            .registration(&operator, "enrol", &created.token)
            .send()
            .await
            .expect("an answer");
        assert_eq!(response.headers()["retry-after"], "7");
        assert_eq!(read(response).await.0, 503);
    }
    assert_eq!(after(hub, operator, created, &host).await, (201, (1, 1)));
}

#[tokio::test]
async fn a_redirect_and_a_date() {
    let date = "Wed, 21 Oct 2026 07:28:00 GMT";
    let fault =
        json!({"status": 307, "location": "https://elsewhere.example/", "retry_after": date});
    let (hub, operator, created) = with_fault(fault).await;
    let host = Host::new();
    let response = host
        .registration(&operator, "enrol", &created.token)
        .send()
        .await
        .expect("an answer");
    assert_eq!(response.status(), 307);
    assert_eq!(response.headers()["location"], "https://elsewhere.example/");
    assert_eq!(response.headers()["retry-after"], date);
    assert_eq!(after(hub, operator, created, &host).await, (201, (1, 1)));
}

#[tokio::test]
async fn a_reset_before_the_commit_stores_nothing() {
    let (hub, operator, created) = with_fault(json!({"reset": "before"})).await;
    let host = Host::new();
    let error = host
        .registration(&operator, "enrol", &created.token)
        .send()
        .await;
    assert!(error.is_err());
    assert_eq!(operator.uses(&created).await, (0, 0));
    assert_eq!(after(hub, operator, created, &host).await, (201, (1, 1)));
}

#[tokio::test]
async fn a_reset_after_the_commit_stores_an_agent_unknown_to_the_host() {
    let (hub, operator, created) = with_fault(json!({"reset": "after"})).await;
    let host = Host::new();
    let error = host
        .registration(&operator, "enrol", &created.token)
        .send()
        .await;
    assert!(error.is_err());
    assert_eq!(operator.uses(&created).await, (1, 1));
    assert_eq!(after(hub, operator, created, &host).await, (200, (1, 1)));
}

#[tokio::test]
async fn a_reset_is_an_rst_on_the_wire() {
    for http in [true, false] {
        let hub = hub_with(Options {
            http,
            ..Options::default()
        })
        .await;
        let operator = Caller::of(&hub);
        for reset in ["before", "after"] {
            operator
                .fault(json!({"route": "enrol", "reset": reset}))
                .await;
            let request = post(
                "/api/v1/agents/enrol",
                &[("Content-Type", "text/plain")],
                b"",
            );
            let (answer, ended) = exchange(&hub, &request).await;
            assert!(answer.is_empty());
            assert_eq!(
                ended.expect_err("a reset").kind(),
                io::ErrorKind::ConnectionReset
            );
        }
        hub.stop().await;
    }
}

#[tokio::test]
async fn a_truncated_body_declares_its_full_length() {
    for http in [true, false] {
        for at in [0, 1, 20] {
            let hub = hub_with(Options {
                http,
                ..Options::default()
            })
            .await;
            let operator = Caller::of(&hub);
            operator
                .fault(json!({"route": "enrol", "truncate_at": at, "body_bytes": 500_000}))
                .await;
            let request = post(
                "/api/v1/agents/enrol",
                &[("Content-Type", "text/plain")],
                b"",
            );
            let (answer, ended) = exchange(&hub, &request).await;
            let answer = String::from_utf8(answer).expect("text");
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
            assert!(head.contains("content-length: 500000"), "{head}");
            assert_eq!(body, &r#"{"error":"unsupported_media_type""#[..at]);
            // Plain TCP just ends; TLS misses its `close_notify`.
            assert_eq!(ended.is_ok(), http, "{ended:?}");
            hub.stop().await;
        }
    }
}

#[tokio::test]
async fn a_long_truncated_body_arrives_up_to_the_cut() {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    operator
        .fault(json!({"route": "enrol", "truncate_at": 4_000_000, "body_bytes": 5_000_000}))
        .await;
    let request = post("/api/v1/agents/enrol", &[], b"");
    let (answer, ended) = exchange(&hub, &request).await;
    let head = answer
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .expect("a head");
    assert_eq!(answer.len() - head - 4, 4_000_000);
    assert_eq!(
        ended.expect_err("a cut").kind(),
        io::ErrorKind::UnexpectedEof
    );
    hub.stop().await;
}

#[tokio::test]
async fn a_truncated_answer_was_committed() {
    let (hub, operator, created) = with_fault(json!({"truncate_at": 10})).await;
    let host = Host::new();
    let response = host
        .registration(&operator, "enrol", &created.token)
        .send()
        .await;
    assert!(response.expect("a head").bytes().await.is_err());
    assert_eq!(after(hub, operator, created, &host).await, (200, (1, 1)));
}

#[tokio::test]
async fn another_body_and_content_type() {
    let (hub, operator, created) =
        with_fault(json!({"body": "<html>", "content_type": "text/html"})).await;
    let host = Host::new();
    let response = host
        .registration(&operator, "enrol", &created.token)
        .send()
        .await
        .expect("an answer");
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["content-type"], "text/html");
    assert_eq!(response.bytes().await.expect("a body"), "<html>");

    operator
        .fault(json!({"route": "enrol", "body_base64": "//79"}))
        .await;
    let response = host
        .registration(&operator, "enrol", &created.token)
        .send()
        .await
        .expect("an answer");
    assert_eq!(
        response.bytes().await.expect("a body"),
        &b"\xff\xfe\xfd"[..]
    );

    operator
        .fault(json!({"route": "enrol", "body_bytes": 2_097_152}))
        .await;
    let response = host
        .registration(&operator, "enrol", &created.token)
        .send()
        .await
        .expect("an answer");
    let body = response.bytes().await.expect("a body");
    assert_eq!(body.len(), 2_097_152);
    assert!(serde_json::from_slice::<Value>(&body).expect("still JSON")["agent_token"].is_string());
    assert_eq!(after(hub, operator, created, &host).await, (200, (1, 1)));
}

#[tokio::test]
async fn a_delay_changes_nothing_else() {
    let (hub, operator, created) = with_fault(json!({"delay_ms": 1})).await;
    let host = Host::new();
    assert_eq!(host.enrol(&operator, &created.token).await.0, 201);
    assert_eq!(after(hub, operator, created, &host).await, (200, (1, 1)));
}

#[tokio::test]
async fn each_route_has_its_own_faults_in_order() {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    let created = operator.create_token(1, json!({})).await;
    let host = Host::new();
    let agent = Agent::enrol(&host, &operator, &created.token).await;
    for (route, status) in [
        ("register", 500),
        ("register", 502),
        ("heartbeat", 503),
        ("delete", 504),
    ] {
        operator
            .fault(json!({"route": route, "status": status}))
            .await;
    }
    assert_eq!(
        operator.get(FAULTS).await.1["faults"][3],
        json!({"route": "delete", "times": 1, "status": 504})
    );
    assert_eq!(host.register(&operator, &agent.token).await.0, 500);
    assert_eq!(host.register(&operator, &agent.token).await.0, 502);
    assert_eq!(host.register(&operator, &agent.token).await.0, 200);
    assert_eq!(
        answer(host.heartbeat(&operator, &agent, &json!({})))
            .await
            .0,
        503
    );
    assert_eq!(host.unenrol(&operator, &agent).await.0, 504);

    operator
        .fault(json!({"route": "delete", "body": "{\"left\":true}"}))
        .await;
    let left: Answer = host.unenrol(&operator, &agent).await;
    assert_eq!(
        left,
        (200, json!({"left": true})),
        "a 204 cannot carry a body"
    );
    hub.stop().await;
}

#[tokio::test]
async fn faults_are_cleared_by_route_and_all_together() {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    for route in ["enrol", "enrol", "register"] {
        operator
            .fault(json!({"route": route, "status": 500, "times": 9}))
            .await;
    }
    let (status, live) = operator
        .post(FAULTS, &json!({"route": "enrol", "times": 0}))
        .await;
    assert_eq!(status, 200);
    assert_eq!(
        live,
        json!({"faults": [{"route": "register", "times": 9, "status": 500}]})
    );
    assert_eq!(operator.delete(FAULTS).await.0, 204);
    assert_eq!(operator.get(FAULTS).await.1, json!({"faults": []}));
    hub.stop().await;
}

#[tokio::test]
async fn nonsense_is_refused() {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    for fault in [
        json!({"route": "elsewhere", "status": 500}),
        json!({"status": 500}),
        json!({"route": "enrol"}),
        json!({"route": "enrol", "status": 199}),
        json!({"route": "enrol", "status": 600}),
        json!({"route": "enrol", "retry_after": 1}),
        json!({"route": "enrol", "status": 503, "retry_after": ""}),
        json!({"route": "enrol", "status": 503, "retry_after": "a\nb"}),
        json!({"route": "enrol", "status": 503, "retry_after": -1}),
        json!({"route": "enrol", "status": 200, "location": "/"}),
        json!({"route": "enrol", "reset": "sometimes"}),
        json!({"route": "enrol", "reset": "before", "status": 500}),
        json!({"route": "enrol", "reset": "after", "body": "x"}),
        json!({"route": "enrol", "body": "x", "body_base64": "eA=="}),
        json!({"route": "enrol", "body_base64": "!"}),
        json!({"route": "enrol", "body_bytes": 1_000_000_000}),
        json!({"route": "enrol", "content_type": "a\nb"}),
        json!({"route": "enrol", "delay_ms": 600_001}),
        json!({"route": "enrol", "status": 204, "body": "x"}),
        json!({"route": "enrol", "status": 500, "times": -1}),
    ] {
        assert_eq!(operator.post(FAULTS, &fault).await.0, 422, "{fault}");
    }
    hub.stop().await;
}
