//! Heartbeats that the hub refuses: stolen, old, repeated, too many or too large.

use crate::clients::{Agent, Answer, Caller, Host, answer, click, hub_with, read, text};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mock_hub::{Hub, Options};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;

/// A hub with one host in it, and the hub's clock.
pub(crate) struct Fixture {
    pub(crate) hub: Hub,
    pub(crate) operator: Caller,
    pub(crate) host: Host,
    pub(crate) agent: Agent,
    advanced: Duration,
    heartbeats: AtomicU32,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let hub = hub_with(options).await;
        let operator = Caller::of(&hub);
        let created = operator.create_token(1, json!({})).await;
        let host = Host::new();
        let agent = Agent::enrol(&host, &operator, &created.token).await;
        Self {
            hub,
            operator,
            host,
            agent,
            advanced: Duration::ZERO,
            heartbeats: AtomicU32::new(0),
        }
    }

    pub(crate) fn advance(&mut self, seconds: u64) {
        let by = Duration::from_secs(seconds);
        self.hub.advance_clock(by);
        self.advanced += by;
    }

    /// Returns a heartbeat of this many seconds from now by the hub's clock. No two are equal.
    pub(crate) fn body(&self, seconds_from_now: i64) -> Value {
        let nth = self.heartbeats.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.expect("after 1970") + self.advanced;
        let moment = i64::try_from(now.as_secs()).expect("fits") + seconds_from_now;
        json!({"captured_at": rfc3339(moment), "agent_version": "0.2.0", "cpu_usage": nth,
            "memory_used": 1, "memory_total": 2, "memory_percent": 50.0, "interfaces": []})
    }

    /// Returns a heartbeat of the host itself, not sent yet.
    pub(crate) fn signed(&self, body: &Value) -> RequestBuilder {
        self.host.heartbeat(&self.operator, &self.agent, body)
    }

    pub(crate) async fn send_heartbeat(&self, seconds_from_now: i64) -> Answer {
        answer(self.signed(&self.body(seconds_from_now))).await
    }

    pub(crate) async fn expect(&self, seconds_from_now: i64, status: u16) {
        let answer = self.send_heartbeat(seconds_from_now).await;
        assert_eq!(answer.0, status, "{}", answer.1);
    }

    /// Returns the agent, as shown to the operator.
    pub(crate) async fn row(&self) -> Value {
        let path = format!("/api/v1/agents/{}", self.agent.id);
        self.operator.get(&path).await.1
    }

    /// Returns kind, severity, occurrences and detail of the agent's anomalies.
    pub(crate) async fn anomalies(&self) -> Vec<(String, String, u64, String)> {
        let (_, list) = self.operator.get("/api/v1/integrity").await;
        let rows = list["anomalies"].as_array().expect("a list").iter();
        rows.map(|row| {
            assert_eq!(row["agent_id"], self.agent.id, "{row}");
            assert!(row["first_seen_at"].is_string() && row["last_seen_at"].is_string());
            let occurrences = row["occurrences"].as_u64().expect("a number");
            let text = |field| text(row, field);
            (text("kind"), text("severity"), occurrences, text("detail"))
        })
        .collect()
    }
}

fn rfc3339(moment: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(moment).expect("a time");
    let (hour, minute, second) = time.to_hms();
    format!("{}T{hour:02}:{minute:02}:{second:02}Z", time.date())
}

fn error(answer: &Answer) -> (u16, &str) {
    (answer.0, answer.1["error"].as_str().unwrap_or_default())
}

/// Returns the signature headers that a thief with the token alone can make.
fn forged_signatures(
    fixture: &Fixture,
    body: &[u8],
    captured: &str,
) -> Vec<(Option<String>, &'static str)> {
    let thief = Host::new();
    vec![
        (None, "unsigned_payload"),
        (Some(String::new()), "signature_invalid"),
        (Some("not base64".to_owned()), "signature_invalid"),
        (Some(STANDARD.encode([0; 64])), "signature_invalid"),
        (Some(thief.sign(body)), "signature_invalid"),
        // The host's own signature, of another body.
        (Some(captured.to_owned()), "signature_invalid"),
        (Some(fixture.host.sign(b"")), "signature_invalid"),
    ]
}

#[tokio::test]
async fn a_stolen_token_without_the_key_changes_nothing() {
    // An interval so long that the rate limit stays used up during the test.
    let fixture = Fixture::with(Options {
        heartbeat_interval_secs: 36_000,
        ..Options::default()
    })
    .await;
    let captured = fixture.body(0);
    assert_eq!(answer(fixture.signed(&captured)).await.0, 204);
    let captured = serde_json::to_vec(&captured).expect("JSON");
    let signature = fixture.host.sign(&captured);
    let row = fixture.row().await;

    let path = format!("/api/v1/agents/{}", fixture.agent.id);
    let steal = |method: Method, path: &str, body: Vec<u8>, signature: Option<String>| {
        let request = fixture
            .operator
            .request(method, path)
            .bearer_auth(&fixture.agent.token);
        let request = request
            .header("Content-Type", "application/json")
            .body(body);
        match signature {
            Some(signature) => request.header("X-Monsys-Signature", signature),
            None => request,
        }
    };
    let forged = serde_json::to_vec(&fixture.body(0)).expect("JSON");
    let heartbeat = format!("{path}/heartbeat");
    for (forgery, code) in forged_signatures(&fixture, &forged, &signature) {
        let stolen = steal(Method::POST, &heartbeat, forged.clone(), forgery.clone());
        assert_eq!(error(&answer(stolen).await), (403, code), "{forgery:?}");
    }
    // A captured heartbeat is accepted once.
    let replay = steal(Method::POST, &heartbeat, captured, Some(signature.clone()));
    assert_eq!(error(&answer(replay).await), (409, "replayed"));
    // The thief can neither pin a key, nor use the host's, nor delete the agent.
    let thief = Host::new();
    let stolen = thief
        .register(&fixture.operator, &fixture.agent.token)
        .await;
    assert_eq!(error(&stolen), (403, "signature_invalid"));
    let registration = serde_json::to_vec(&fixture.host.body).expect("JSON");
    let register = "/api/v1/agents/register";
    let stolen = steal(
        Method::POST,
        register,
        registration,
        Some(signature.clone()),
    );
    assert_eq!(error(&answer(stolen).await), (403, "signature_invalid"));
    let stolen = steal(Method::DELETE, &path, Vec::new(), Some(signature));
    assert_eq!(error(&answer(stolen).await), (403, "signature_invalid"));

    let anomalies = fixture.anomalies().await;
    let of = |n: usize| {
        (
            anomalies[n].0.as_str(),
            anomalies[n].1.as_str(),
            anomalies[n].2,
        )
    };
    assert_eq!(of(0), ("unsigned_payload", "high", 1));
    assert_eq!(of(1), ("signature_invalid", "critical", 9));
    assert_eq!(of(2), ("cadence_anomaly", "medium", 1));

    // After ten calls the thief has to wait; the host does not.
    let stolen = steal(Method::POST, &heartbeat, forged, None).send().await;
    let stolen = stolen.expect("an answer");
    assert_eq!(stolen.headers()["retry-after"], "3600");
    assert_eq!(error(&read(stolen).await), (429, "too_many_requests"));
    assert_eq!(
        fixture.anomalies().await,
        anomalies,
        "no more rows are written"
    );
    assert_eq!(fixture.row().await, row, "nothing was pushed");
    fixture.expect(0, 204).await;
    assert_eq!(
        fixture
            .host
            .unenrol(&fixture.operator, &fixture.agent)
            .await
            .0,
        204
    );
    fixture.hub.stop().await;
}

#[tokio::test]
async fn a_token_of_another_agent_is_rejected() {
    let fixture = Fixture::new().await;
    let other = click(&fixture.operator, &json!({})).await;
    let other = Agent {
        id: other.id,
        token: fixture.agent.token.clone(),
    };
    let elsewhere = fixture
        .host
        .heartbeat(&fixture.operator, &other, &fixture.body(0));
    assert_eq!(answer(elsewhere).await.0, 401);
    assert!(fixture.anomalies().await.is_empty());
    fixture.hub.stop().await;
}

#[tokio::test]
async fn before_a_key_is_pinned_no_signature_is_required() {
    let fixture = Fixture::new().await;
    let fresh = click(&fixture.operator, &json!({})).await;
    let body = fixture.body(0);
    let unsigned = || {
        let path = format!("/api/v1/agents/{}/heartbeat", fresh.id);
        let request = fixture.operator.request(Method::POST, &path);
        answer(request.bearer_auth(&fresh.token).json(&body))
    };
    assert_eq!(unsigned().await.0, 204);
    assert_eq!(error(&unsigned().await), (409, "replayed"), "all the same");
    assert_eq!(
        fixture
            .host
            .unenrol(&fixture.operator, &fixture.agent)
            .await
            .0,
        204
    );
    assert_eq!(
        fixture
            .host
            .register(&fixture.operator, &fresh.token)
            .await
            .0,
        200
    );
    assert_eq!(error(&unsigned().await), (403, "unsigned_payload"));
    fixture.hub.stop().await;
}

#[tokio::test]
async fn a_wrong_clock_is_refused_with_the_difference() {
    let fixture = Fixture::new().await;
    fixture.expect(-290, 204).await;
    fixture.expect(300, 204).await;
    assert!(fixture.anomalies().await.is_empty());
    let row = fixture.row().await;

    for (seconds, said) in [(-301, "s behind the hub's clock"), (86_400, "s ahead of")] {
        let refused = fixture.send_heartbeat(seconds).await;
        assert_eq!(error(&refused), (409, "clock_drift"));
        let message = text(&refused.1, "message");
        assert!(message.contains(said), "{message}");
        let (kind, severity, _, detail) = fixture.anomalies().await.remove(0);
        assert_eq!(
            (kind.as_str(), severity.as_str()),
            ("clock_drift", "medium")
        );
        assert!(message.starts_with(&detail), "{detail}");
    }
    assert_eq!(fixture.anomalies().await[0].2, 2);
    assert_eq!(fixture.row().await, row);
    fixture.hub.stop().await;
}

#[tokio::test]
async fn a_host_that_uses_the_hubs_date_is_accepted_again() {
    let mut fixture = Fixture::new().await;
    // By the hub's clock, the host's is an hour behind.
    fixture.advance(3_600);
    let refused = fixture.signed(&fixture.body(-3_600)).send().await;
    let refused = refused.expect("an answer");
    let date = refused.headers()["date"].to_str().expect("text").to_owned();
    assert_eq!(refused.status(), 409);
    let date = httpdate::parse_http_date(&date).expect("a date");
    let date = date.duration_since(UNIX_EPOCH).expect("after 1970");
    let mut body = fixture.body(0);
    body["captured_at"] = json!(rfc3339(i64::try_from(date.as_secs()).expect("fits")));
    assert_eq!(answer(fixture.signed(&body)).await.0, 204);
    fixture.hub.stop().await;
}

#[tokio::test]
async fn a_heartbeat_is_accepted_once() {
    for seconds_from_now in [-290, 0, 290] {
        let mut fixture = Fixture::new().await;
        let body = fixture.body(seconds_from_now);
        let captured = || fixture.signed(&body);
        assert_eq!(answer(captured()).await.0, 204);
        assert_eq!(error(&answer(captured()).await), (409, "replayed"));
        let anomalies = fixture.anomalies().await;
        assert_eq!(
            (anomalies[0].0.as_str(), anomalies.len()),
            ("cadence_anomaly", 1)
        );
        for _ in 0..12 {
            fixture.advance(60);
            // The host continues, so the hub deletes old hashes.
            fixture.expect(0, 204).await;
            let (status, code) = answer(fixture.signed(&body)).await;
            assert_eq!(status, 409, "{code}");
        }
        let late = answer(fixture.signed(&body)).await;
        assert_eq!(error(&late), (409, "clock_drift"), "by now it is just old");
        fixture.hub.stop().await;
    }
}

#[tokio::test]
async fn the_calls_of_an_agent_are_limited() {
    let mut fixture = Fixture::with(Options {
        heartbeat_interval_secs: 3_600,
        ..Options::default()
    })
    .await;
    for _ in 0..10 {
        fixture.expect(0, 204).await;
    }
    let limited = fixture.signed(&fixture.body(0)).send().await;
    let limited = limited.expect("an answer");
    let wait = limited.headers()["retry-after"].to_str().expect("text");
    let wait: u64 = wait.parse().expect("seconds");
    assert!((1..=360).contains(&wait), "{wait}");
    assert_eq!(error(&read(limited).await), (429, "too_many_requests"));

    let other = Host::new();
    let created = fixture.operator.create_token(1, json!({})).await;
    let agent = Agent::enrol(&other, &fixture.operator, &created.token).await;
    let send_heartbeat = other.heartbeat(&fixture.operator, &agent, &fixture.body(0));
    assert_eq!(
        answer(send_heartbeat).await.0,
        204,
        "another agent is not limited"
    );

    fixture.advance(wait);
    fixture.expect(0, 204).await;
    fixture.expect(0, 429).await;
    fixture.hub.stop().await;
}

#[tokio::test]
async fn a_signed_body_over_the_cap_is_refused() {
    let fixture = Fixture::new().await;
    let mut body = fixture.body(0);
    body["padding"] = json!("x".repeat((1 << 20) - body.to_string().len() - 13));
    assert_eq!(body.to_string().len(), 1 << 20);
    assert_eq!(answer(fixture.signed(&body)).await.0, 204, "it just fits");
    let mut body = fixture.body(0);
    body["padding"] = json!("x".repeat(1 << 20));
    assert_eq!(
        error(&answer(fixture.signed(&body)).await),
        (413, "body_too_large")
    );
    for broken in [
        json!({}),
        json!({"captured_at": "yesterday", "agent_version": "1"}),
    ] {
        assert_eq!(answer(fixture.signed(&broken)).await.0, 422);
    }
    fixture.hub.stop().await;
}

/// NTP or an operator sets the hub's clock: no host calls more or less often for that.
#[tokio::test]
async fn setting_the_hubs_clock_causes_no_anomaly() {
    for step in [-3_600, -30, 30, 3_600, 40 * 31_557_600] {
        let mut fixture = Fixture::new().await;
        for _ in 0..14 {
            fixture.advance(30);
            fixture.expect(0, 204).await;
        }
        fixture.hub.set_clock_by(step * 1_000);
        for _ in 0..14 {
            fixture.advance(30);
            // Stamped by the hub's clock, as the host learns it from a response.
            fixture.expect(step, 204).await;
        }
        assert_eq!(fixture.anomalies().await, [], "{step} s");
        // The burst is used up, and refills at the usual rate.
        for _ in 0..9 {
            let answer = fixture.send_heartbeat(step).await;
            assert!([204, 429].contains(&answer.0), "{}", answer.1);
        }
        fixture.hub.set_clock_by(step * 1_000);
        fixture.advance(30);
        fixture.expect(2 * step, 204).await;
        fixture.hub.stop().await;
    }
}
