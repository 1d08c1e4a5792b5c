//! The refusals before the credential is checked, and their order.

use crate::clients::{Agent, Caller, Host, answer, hub, text};
use mock_hub::Hub;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

const PATH: &str = "/api/v1/agents/enrol";

async fn start() -> (Hub, Caller) {
    let hub = hub().await;
    let caller = Caller::of(&hub);
    (hub, caller)
}

fn raw(caller: &Caller, content_type: &str, body: Vec<u8>) -> RequestBuilder {
    caller
        .request(Method::POST, PATH)
        .header("Content-Type", content_type)
        .body(body)
}

#[tokio::test]
async fn size_then_type_then_syntax_then_shape_then_credential() {
    let (hub, caller) = start().await;
    let over = vec![b' '; (1 << 20) + 1];
    assert_eq!(answer(raw(&caller, "text/plain", over)).await.0, 413);
    let just_fits = [vec![b' '; (1 << 20) - 2], b"{}".to_vec()].concat();
    assert_eq!(
        answer(raw(&caller, "application/json", just_fits)).await.0,
        422
    );
    assert_eq!(
        answer(raw(&caller, "text/plain", b"{".to_vec())).await.0,
        415
    );
    assert_eq!(
        answer(caller.request(Method::POST, PATH).body("{}"))
            .await
            .0,
        415
    );
    for broken in [&b"{"[..], b"", b"\xff", b"{}{}", b"{\"a\": 1e999}"] {
        assert_eq!(
            answer(raw(&caller, "application/json", broken.to_vec()))
                .await
                .0,
            400,
            "{broken:?}"
        );
    }
    assert_eq!(
        answer(raw(&caller, "application/json", b"[]".to_vec()))
            .await
            .0,
        422
    );
    let body = serde_json::to_vec(&Host::new().body).expect("JSON");
    let with_charset = raw(&caller, "Application/JSON; charset=utf-8", body);
    assert_eq!(answer(with_charset).await.0, 401);
    hub.stop().await;
}

#[tokio::test]
async fn a_body_over_a_limit_is_refused_with_the_field() {
    let (hub, caller) = start().await;
    let created = caller.create_token(1, json!({})).await;
    let long = "x".repeat(129);
    let many = vec!["t"; 65];
    for (field, value) in [
        ("signing_pubkey", json!("AAAA")),
        ("signing_pubkey", json!("not base64")),
        ("signing_pubkey", Value::Null),
        ("tags", json!([long])),
        ("tags", json!(["a,b"])),
        ("tags", json!(["a\nb"])),
        ("tags", json!(many)),
        ("tags", json!("a")),
        ("role", json!(long)),
        ("role", json!("a\u{0}")),
        ("role", json!(7)),
        ("hostname", json!("")),
        ("hostname", Value::Null),
        ("agent_version", json!(1)),
        ("memory_bytes", json!(-1)),
        ("primary_ip", json!("somewhere")),
        ("interfaces", json!([{}])),
    ] {
        let (status, body) = Host::new()
            .with(field, value.clone())
            .enrol(&caller, &created.token)
            .await;
        assert_eq!(status, 422, "{field} {value}");
        assert!(text(&body, "message").contains(field), "{field}: {body}");
    }
    assert_eq!(caller.uses(&created).await, (0, 0));
    let lean = json!({"hostname": "h", "os_info": "o", "architecture": "a", "agent_version": "1",
        "signing_pubkey": Host::new().body["signing_pubkey"]});
    let mut host = Host::new();
    let key = host.body["signing_pubkey"].clone();
    host.body = lean;
    host.body["signing_pubkey"] = key;
    Agent::enrol(&host, &caller, &created.token).await;
    hub.stop().await;
}

#[tokio::test]
async fn unknown_addresses_and_methods() {
    let (hub, caller) = start().await;
    let (status, body) = answer(caller.request(Method::GET, "/nowhere")).await;
    assert_eq!((status, text(&body, "error").as_str()), (404, "not_found"));
    let response = caller
        .request(Method::GET, PATH)
        .send()
        .await
        .expect("an answer");
    assert_eq!(response.headers()["allow"], "POST");
    assert_eq!(crate::clients::read(response).await.0, 405);
    let (status, body) = answer(caller.request(Method::GET, "/healthz")).await;
    assert_eq!((status, &body["status"]), (200, &json!("ok")));
    hub.stop().await;
}
