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
pub(crate) struct Scene {
    pub(crate) hub: Hub,
    pub(crate) operator: Caller,
    pub(crate) host: Host,
    pub(crate) agent: Agent,
    advanced: Duration,
    beats: AtomicU32,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let hub = hub_with(options).await;
        let operator = Caller::of(&hub);
        let minted = operator.mint(1, json!({})).await;
        let host = Host::new();
        let agent = Agent::enrol(&host, &operator, &minted.token).await;
        Self {
            hub,
            operator,
            host,
            agent,
            advanced: Duration::ZERO,
            beats: AtomicU32::new(0),
        }
    }

    pub(crate) fn advance(&mut self, seconds: u64) {
        let by = Duration::from_secs(seconds);
        self.hub.advance_clock(by);
        self.advanced += by;
    }

    /// A heartbeat as of so many seconds from now, by the hub's clock. No two are alike.
    pub(crate) fn body(&self, seconds_from_now: i64) -> Value {
        let nth = self.beats.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.expect("after 1970") + self.advanced;
        let moment = i64::try_from(now.as_secs()).expect("fits") + seconds_from_now;
        json!({"captured_at": rfc3339(moment), "agent_version": "0.2.0", "cpu_usage": nth,
            "memory_used": 1, "memory_total": 2, "memory_percent": 50.0, "interfaces": []})
    }

    /// A heartbeat of the host itself, not sent yet.
    pub(crate) fn signed(&self, body: &Value) -> RequestBuilder {
        self.host.heartbeat(&self.operator, &self.agent, body)
    }

    pub(crate) async fn beat(&self, seconds_from_now: i64) -> Answer {
        answer(self.signed(&self.body(seconds_from_now))).await
    }

    pub(crate) async fn expect(&self, seconds_from_now: i64, status: u16) {
        let answer = self.beat(seconds_from_now).await;
        assert_eq!(answer.0, status, "{}", answer.1);
    }

    /// The agent's row, as the operator sees it.
    pub(crate) async fn row(&self) -> Value {
        let path = format!("/api/v1/agents/{}", self.agent.id);
        self.operator.get(&path).await.1
    }

    /// Kind, severity, occurrences and detail of what the hub doubts the agent for.
    pub(crate) async fn doubts(&self) -> Vec<(String, String, u64, String)> {
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

/// What a thief with the token alone can put into the signature header.
fn forgeries(scene: &Scene, body: &[u8], captured: &str) -> Vec<(Option<String>, &'static str)> {
    let thief = Host::new();
    vec![
        (None, "unsigned_payload"),
        (Some(String::new()), "signature_invalid"),
        (Some("no base64".to_owned()), "signature_invalid"),
        (Some(STANDARD.encode([0; 64])), "signature_invalid"),
        (Some(thief.sign(body)), "signature_invalid"),
        // The host's own, of another body.
        (Some(captured.to_owned()), "signature_invalid"),
        (Some(scene.host.sign(b"")), "signature_invalid"),
    ]
}

#[tokio::test]
async fn a_stolen_token_without_the_key_pushes_nothing() {
    // An interval so long that no call is earned back while the test runs.
    let scene = Scene::with(Options {
        heartbeat_interval_secs: 36_000,
        ..Options::default()
    })
    .await;
    let captured = scene.body(0);
    assert_eq!(answer(scene.signed(&captured)).await.0, 204);
    let captured = serde_json::to_vec(&captured).expect("JSON");
    let signature = scene.host.sign(&captured);
    let row = scene.row().await;

    let path = format!("/api/v1/agents/{}", scene.agent.id);
    let steal = |method: Method, path: &str, body: Vec<u8>, signature: Option<String>| {
        let request = scene
            .operator
            .request(method, path)
            .bearer_auth(&scene.agent.token);
        let request = request
            .header("Content-Type", "application/json")
            .body(body);
        match signature {
            Some(signature) => request.header("X-Monsys-Signature", signature),
            None => request,
        }
    };
    let forged = serde_json::to_vec(&scene.body(0)).expect("JSON");
    let heartbeat = format!("{path}/heartbeat");
    for (forgery, code) in forgeries(&scene, &forged, &signature) {
        let stolen = steal(Method::POST, &heartbeat, forged.clone(), forgery.clone());
        assert_eq!(error(&answer(stolen).await), (403, code), "{forgery:?}");
    }
    // What went over the wire once is taken once.
    let replay = steal(Method::POST, &heartbeat, captured, Some(signature.clone()));
    assert_eq!(error(&answer(replay).await), (409, "replayed"));
    // The thief can neither pin a key of its own, nor speak for the host's, nor delete the agent.
    let thief = Host::new();
    let stolen = thief.register(&scene.operator, &scene.agent.token).await;
    assert_eq!(error(&stolen), (403, "signature_invalid"));
    let introduction = serde_json::to_vec(&scene.host.body).expect("JSON");
    let register = "/api/v1/agents/register";
    let stolen = steal(
        Method::POST,
        register,
        introduction,
        Some(signature.clone()),
    );
    assert_eq!(error(&answer(stolen).await), (403, "signature_invalid"));
    let stolen = steal(Method::DELETE, &path, Vec::new(), Some(signature));
    assert_eq!(error(&answer(stolen).await), (403, "signature_invalid"));

    let doubts = scene.doubts().await;
    let of = |n: usize| (doubts[n].0.as_str(), doubts[n].1.as_str(), doubts[n].2);
    assert_eq!(of(0), ("unsigned_payload", "high", 1));
    assert_eq!(of(1), ("signature_invalid", "critical", 9));
    assert_eq!(of(2), ("cadence_anomaly", "medium", 1));

    // After ten of them there is nothing for the thief but to wait, and the host is none the worse.
    let stolen = steal(Method::POST, &heartbeat, forged, None).send().await;
    let stolen = stolen.expect("an answer");
    assert_eq!(stolen.headers()["retry-after"], "3600");
    assert_eq!(error(&read(stolen).await), (429, "too_many_requests"));
    assert_eq!(scene.doubts().await, doubts, "no more rows are written");
    assert_eq!(scene.row().await, row, "nothing was pushed");
    scene.expect(0, 204).await;
    assert_eq!(scene.host.leave(&scene.operator, &scene.agent).await.0, 204);
    scene.hub.stop().await;
}

#[tokio::test]
async fn a_token_of_another_agent_is_none() {
    let scene = Scene::new().await;
    let other = click(&scene.operator, &json!({})).await;
    let other = Agent {
        id: other.id,
        token: scene.agent.token.clone(),
    };
    let elsewhere = scene
        .host
        .heartbeat(&scene.operator, &other, &scene.body(0));
    assert_eq!(answer(elsewhere).await.0, 401);
    assert!(scene.doubts().await.is_empty());
    scene.hub.stop().await;
}

#[tokio::test]
async fn before_a_key_is_pinned_no_signature_is_asked_for() {
    let scene = Scene::new().await;
    let fresh = click(&scene.operator, &json!({})).await;
    let body = scene.body(0);
    let unsigned = || {
        let path = format!("/api/v1/agents/{}/heartbeat", fresh.id);
        let request = scene.operator.request(Method::POST, &path);
        answer(request.bearer_auth(&fresh.token).json(&body))
    };
    assert_eq!(unsigned().await.0, 204);
    assert_eq!(error(&unsigned().await), (409, "replayed"), "all the same");
    assert_eq!(scene.host.leave(&scene.operator, &scene.agent).await.0, 204);
    assert_eq!(
        scene.host.register(&scene.operator, &fresh.token).await.0,
        200
    );
    assert_eq!(error(&unsigned().await), (403, "unsigned_payload"));
    scene.hub.stop().await;
}

#[tokio::test]
async fn a_wrong_clock_is_told_by_how_much() {
    let scene = Scene::new().await;
    scene.expect(-290, 204).await;
    scene.expect(300, 204).await;
    assert!(scene.doubts().await.is_empty());
    let row = scene.row().await;

    for (seconds, said) in [(-301, "s behind the hub's clock"), (86_400, "s ahead of")] {
        let refused = scene.beat(seconds).await;
        assert_eq!(error(&refused), (409, "clock_drift"));
        let message = text(&refused.1, "message");
        assert!(message.contains(said), "{message}");
        let (kind, severity, _, detail) = scene.doubts().await.remove(0);
        assert_eq!(
            (kind.as_str(), severity.as_str()),
            ("clock_drift", "medium")
        );
        assert!(message.starts_with(&detail), "{detail}");
    }
    assert_eq!(scene.doubts().await[0].2, 2);
    assert_eq!(scene.row().await, row);
    scene.hub.stop().await;
}

#[tokio::test]
async fn a_host_that_goes_by_the_hubs_date_is_heard_again() {
    let mut scene = Scene::new().await;
    // To the hub, the host's clock is an hour behind.
    scene.advance(3_600);
    let refused = scene.signed(&scene.body(-3_600)).send().await;
    let refused = refused.expect("an answer");
    let date = refused.headers()["date"].to_str().expect("text").to_owned();
    assert_eq!(refused.status(), 409);
    let date = httpdate::parse_http_date(&date).expect("a date");
    let date = date.duration_since(UNIX_EPOCH).expect("after 1970");
    let mut body = scene.body(0);
    body["captured_at"] = json!(rfc3339(i64::try_from(date.as_secs()).expect("fits")));
    assert_eq!(answer(scene.signed(&body)).await.0, 204);
    scene.hub.stop().await;
}

#[tokio::test]
async fn a_heartbeat_is_taken_once_and_never_again() {
    for seconds_from_now in [-290, 0, 290] {
        let mut scene = Scene::new().await;
        let body = scene.body(seconds_from_now);
        let captured = || scene.signed(&body);
        assert_eq!(answer(captured()).await.0, 204);
        assert_eq!(error(&answer(captured()).await), (409, "replayed"));
        let doubts = scene.doubts().await;
        assert_eq!((doubts[0].0.as_str(), doubts.len()), ("cadence_anomaly", 1));
        for _ in 0..12 {
            scene.advance(60);
            // The host goes on, so the hub tidies up what it remembers.
            scene.expect(0, 204).await;
            let (status, code) = answer(scene.signed(&body)).await;
            assert_eq!(status, 409, "{code}");
        }
        let late = answer(scene.signed(&body)).await;
        assert_eq!(error(&late), (409, "clock_drift"), "by now it is just old");
        scene.hub.stop().await;
    }
}

#[tokio::test]
async fn an_agent_calls_so_often_and_no_more() {
    let mut scene = Scene::with(Options {
        heartbeat_interval_secs: 3_600,
        ..Options::default()
    })
    .await;
    for _ in 0..10 {
        scene.expect(0, 204).await;
    }
    let limited = scene.signed(&scene.body(0)).send().await;
    let limited = limited.expect("an answer");
    let wait = limited.headers()["retry-after"].to_str().expect("text");
    let wait: u64 = wait.parse().expect("seconds");
    assert!((1..=360).contains(&wait), "{wait}");
    assert_eq!(error(&read(limited).await), (429, "too_many_requests"));

    let other = Host::new();
    let minted = scene.operator.mint(1, json!({})).await;
    let agent = Agent::enrol(&other, &scene.operator, &minted.token).await;
    let beat = other.heartbeat(&scene.operator, &agent, &scene.body(0));
    assert_eq!(answer(beat).await.0, 204, "another agent is not held up");

    scene.advance(wait);
    scene.expect(0, 204).await;
    scene.expect(0, 429).await;
    scene.hub.stop().await;
}

#[tokio::test]
async fn a_signed_body_over_the_cap_is_refused() {
    let scene = Scene::new().await;
    let mut body = scene.body(0);
    body["padding"] = json!("x".repeat((1 << 20) - body.to_string().len() - 13));
    assert_eq!(body.to_string().len(), 1 << 20);
    assert_eq!(answer(scene.signed(&body)).await.0, 204, "it just fits");
    let mut body = scene.body(0);
    body["padding"] = json!("x".repeat(1 << 20));
    assert_eq!(
        error(&answer(scene.signed(&body)).await),
        (413, "body_too_large")
    );
    for broken in [
        json!({}),
        json!({"captured_at": "yesterday", "agent_version": "1"}),
    ] {
        assert_eq!(answer(scene.signed(&broken)).await.0, 422);
    }
    scene.hub.stop().await;
}

/// NTP sets the hub's clock, or an operator does: no host has called more often for that, or less.
#[tokio::test]
async fn who_sets_the_hubs_clock_makes_no_host_quiet_or_loud() {
    for step in [-3_600, -30, 30, 3_600, 40 * 31_557_600] {
        let mut scene = Scene::new().await;
        for _ in 0..14 {
            scene.advance(30);
            scene.expect(0, 204).await;
        }
        scene.hub.set_clock_by(step * 1_000);
        for _ in 0..14 {
            scene.advance(30);
            // Stamped by the hub's clock, as the host learns it.
            scene.expect(step, 204).await;
        }
        assert_eq!(scene.doubts().await, [], "{step} s");
        // What it had at once is all used up, and comes back as if nothing had been set.
        for _ in 0..9 {
            let answer = scene.beat(step).await;
            assert!([204, 429].contains(&answer.0), "{}", answer.1);
        }
        scene.hub.set_clock_by(step * 1_000);
        scene.advance(30);
        scene.expect(2 * step, 204).await;
        scene.hub.stop().await;
    }
}
