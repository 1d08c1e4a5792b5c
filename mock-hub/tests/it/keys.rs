//! Public keys and signatures that prove nothing.

use crate::clients::{Caller, Host, answer, click, hub, text};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::json;

/// Returns 32 bytes: the first, thirty times the middle one, the last.
fn bytes(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut bytes = [middle; 32];
    (bytes[0], bytes[31]) = (first, last);
    bytes
}

/// With these keys, signatures verify that anybody can compute.
#[tokio::test]
async fn a_key_of_small_order_enrols_nothing() {
    let hub = hub().await;
    let operator = Caller::of(&hub);
    let created = operator.create_token(9, json!({})).await;
    let agent = click(&operator, &json!({})).await;
    for (key, complaint) in [
        (bytes(1, 0, 0), "small order"),
        (bytes(1, 0, 0x80), "small order"),
        (bytes(0xee, 0xff, 0x7f), "small order"),
        (bytes(0xec, 0xff, 0x7f), "small order"),
        (bytes(0, 0, 0), "small order"),
        (bytes(0xed, 0xff, 0x7f), "small order"),
        // 3 in a second encoding.
        (bytes(0xf0, 0xff, 0x7f), "canonical"),
    ] {
        // The identity as `R`, and 0 as `S`.
        let signature = STANDARD.encode([bytes(1, 0, 0), bytes(0, 0, 0)].concat());
        let host = Host::new().with("signing_pubkey", json!(STANDARD.encode(key)));
        for (call, token) in [("enrol", &created.token), ("register", &agent.token)] {
            let request = operator
                .request(Method::POST, &format!("/api/v1/agents/{call}"))
                .bearer_auth(token)
                .header("X-Monsys-Signature", &signature)
                .json(&host.body);
            let (status, refusal) = answer(request).await;
            assert_eq!(status, 422, "{call} {key:02x?}: {refusal}");
            let message = text(&refusal, "message");
            assert!(message.starts_with("signing_pubkey: "), "{message}");
            assert!(message.contains(complaint), "{key:02x?}: {message}");
        }
    }
    assert_eq!(operator.uses(&created).await, (0, 0));
    assert_eq!(operator.agent_count().await, 1);
    hub.stop().await;
}
