//! Bodies of an agent whose key is pinned: the signature is checked before a byte is parsed.

use crate::clients::{Agent, Answer, Caller, Host, answer, click};
use crate::heartbeat::Fixture;
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use std::time::Duration;

const NOT_PARSED: [&[u8]; 6] = [b"", b"no JSON", b"{", b"\xff\xfe", b"[]", b"{\"a\": 1e999}"];

/// The calls that an agent signs.
fn calls(agent: &Agent) -> [(Method, String); 3] {
    let path = format!("/api/v1/agents/{}", agent.id);
    [
        (Method::POST, format!("{path}/heartbeat")),
        (Method::POST, "/api/v1/agents/register".to_owned()),
        (Method::DELETE, path),
    ]
}

fn send(
    caller: &Caller,
    call: &(Method, String),
    token: &str,
    body: &[u8],
    signature: Option<&str>,
) -> RequestBuilder {
    let request = caller
        .request(call.0.clone(), &call.1)
        .bearer_auth(token)
        .header("Content-Type", "application/json")
        .body(body.to_vec());
    match signature {
        Some(signature) => request.header("X-Monsys-Signature", signature),
        None => request,
    }
}

fn error(answer: &Answer) -> (u16, &str) {
    (answer.0, answer.1["error"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn what_is_not_even_json_is_403_and_an_anomaly() {
    let fixture = Fixture::new().await;
    let (caller, token) = (&fixture.operator, &fixture.agent.token);
    let stranger = Host::new();
    let mut unsigned = 0;
    for call in calls(&fixture.agent) {
        for body in NOT_PARSED {
            let wrong = stranger.sign(body);
            let other = fixture.host.sign(b"another body");
            for (signature, code) in [
                (None, "unsigned_payload"),
                (Some("not base64"), "signature_invalid"),
                (Some(wrong.as_str()), "signature_invalid"),
                (Some(other.as_str()), "signature_invalid"),
            ] {
                // Above the rate limit of a thief.
                fixture.hub.advance_clock(Duration::from_mins(1));
                let refused = answer(send(caller, &call, token, body, signature)).await;
                assert_eq!(error(&refused), (403, code), "{call:?} {body:?}");
                unsigned += u64::from(signature.is_none());
            }
        }
    }
    let anomalies = fixture.anomalies().await;
    let of = |n: usize| {
        (
            anomalies[n].0.as_str(),
            anomalies[n].1.as_str(),
            anomalies[n].2,
        )
    };
    assert_eq!(anomalies.len(), 3);
    assert_eq!(of(0), ("unsigned_payload", "high", unsigned));
    assert_eq!(of(1), ("signature_invalid", "critical", 3 * unsigned));
    assert_eq!(
        of(2),
        ("cadence_anomaly", "medium", 1),
        "it is silent by now"
    );
    assert_eq!(fixture.host.register(caller, token).await.0, 200);
    fixture.hub.stop().await;
}

#[tokio::test]
async fn another_content_type_does_not_hide_an_unsigned_body() {
    let fixture = Fixture::new().await;
    for call in &calls(&fixture.agent)[..2] {
        let request = fixture
            .operator
            .request(call.0.clone(), &call.1)
            .bearer_auth(&fixture.agent.token)
            .header("Content-Type", "text/plain");
        let plain = |body: &'static str| request.try_clone().expect("no stream").body(body);
        assert_eq!(
            error(&answer(plain("no JSON")).await),
            (403, "unsigned_payload")
        );
        let signature = fixture.host.sign(b"no JSON");
        let signed = plain("no JSON").header("X-Monsys-Signature", signature);
        assert_eq!(
            error(&answer(signed).await),
            (415, "unsupported_media_type")
        );
    }
    assert_eq!(fixture.anomalies().await[0].2, 2);
    fixture.hub.stop().await;
}

#[tokio::test]
async fn all_other_bodies_are_refused_for_what_they_are() {
    let fixture = Fixture::new().await;
    let caller = &fixture.operator;
    let click = click(caller, &json!({})).await;
    for (body, status) in [(&b"no JSON"[..], 400), (b"[]", 422)] {
        let signature = fixture.host.sign(body);
        for n in 0..2 {
            // Signed by the pinned key; no key is pinned; an unknown token.
            let known = &calls(&fixture.agent)[n];
            let signed = send(caller, known, &fixture.agent.token, body, Some(&signature));
            assert_eq!(answer(signed).await.0, status, "{known:?}");
            let unpinned = &calls(&click)[n];
            let unsigned = send(caller, unpinned, &click.token, body, None);
            assert_eq!(answer(unsigned).await.0, status, "{unpinned:?}");
            let unknown = send(caller, known, "agt_unknown", body, None);
            assert_eq!(answer(unknown).await.0, status, "{known:?}");
        }
        // A token of another agent than the path's causes no anomaly for this agent.
        let elsewhere = &calls(&click)[0];
        let other = send(caller, elsewhere, &fixture.agent.token, body, None);
        assert_eq!(answer(other).await.0, status);
    }
    assert!(fixture.anomalies().await.is_empty());
    fixture.hub.stop().await;
}
