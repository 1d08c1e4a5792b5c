//! Heartbeats that the hub accepts and records anomalies for.

use crate::clients::{Caller, answer};
use crate::heartbeat::Fixture;
use mock_hub::Options;
use serde_json::json;

impl Fixture {
    /// Returns kind, severity and occurrences of each anomaly.
    async fn kinds(&self) -> Vec<(String, String, u64)> {
        let anomalies = self.anomalies().await.into_iter();
        anomalies
            .map(|(kind, severity, n, _)| (kind, severity, n))
            .collect()
    }
}

fn one(kind: &str, severity: &str, occurrences: u64) -> Vec<(String, String, u64)> {
    vec![(kind.to_owned(), severity.to_owned(), occurrences)]
}

#[tokio::test]
async fn an_honest_host_has_no_anomaly() {
    let mut fixture = Fixture::new().await;
    for _ in 0..30 {
        fixture.expect(0, 204).await;
        fixture.advance(28);
    }
    // Two at once, as after a restart of the service; then a reboot of some minutes.
    fixture.expect(0, 204).await;
    fixture.advance(240);
    fixture.expect(0, 204).await;
    assert!(fixture.anomalies().await.is_empty());
    let heartbeat = &fixture.row().await["last_heartbeat"];
    assert_eq!(heartbeat["cpu_usage"], 31.0, "the last one is stored");
    fixture.hub.stop().await;
}

#[tokio::test]
async fn a_lower_version_than_before() {
    let mut fixture = Fixture::new().await;
    let send_heartbeat = async |fixture: &Fixture, version: &str| {
        let mut body = fixture.body(0);
        body["agent_version"] = json!(version);
        assert_eq!(answer(fixture.signed(&body)).await.0, 204);
    };
    send_heartbeat(&fixture, "0.2.0").await;
    send_heartbeat(&fixture, "0.10.0").await;
    assert!(fixture.anomalies().await.is_empty());
    send_heartbeat(&fixture, "0.9.0").await;
    assert_eq!(fixture.kinds().await, one("version_downgrade", "high", 1));
    fixture.advance(30);
    send_heartbeat(&fixture, "0.9.0").await;
    assert_eq!(fixture.kinds().await, one("version_downgrade", "high", 1));
    fixture.hub.stop().await;
}

#[tokio::test]
async fn a_long_silence() {
    let mut fixture = Fixture::new().await;
    fixture.expect(0, 204).await;
    fixture.advance(301);
    fixture.expect(0, 204).await;
    assert_eq!(fixture.kinds().await, one("cadence_anomaly", "medium", 1));
    let detail = fixture.anomalies().await.remove(0).3;
    assert!(detail.starts_with("no heartbeat for 30"), "{detail}");
    fixture.hub.stop().await;
}

#[tokio::test]
async fn the_downtime_of_the_hub_is_not_silence() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options {
        database: Some(dir.path().join("hub.db")),
        ..Options::default()
    };
    let mut fixture = Fixture::with(options.clone()).await;
    fixture.expect(0, 204).await;
    fixture.hub.stop().await;
    // An hour goes by.
    let database = rusqlite::Connection::open(dir.path().join("hub.db")).expect("a database");
    for sql in [
        "UPDATE agents SET heartbeat_at = heartbeat_at - 3600000",
        "UPDATE heartbeats SET received_at = received_at - 3600000",
    ] {
        assert_eq!(database.execute(sql, []), Ok(1));
    }
    drop(database);
    fixture.hub = mock_hub::start(options).await.expect("the hub starts");
    fixture.operator = Caller::of(&fixture.hub);
    fixture.expect(0, 204).await;
    assert!(fixture.anomalies().await.is_empty());
    fixture.hub.stop().await;
}

#[tokio::test]
async fn more_heartbeats_than_one_host_sends() {
    let mut fixture = Fixture::new().await;
    for _ in 0..15 {
        fixture.expect(0, 204).await;
        fixture.advance(10);
    }
    assert!(fixture.anomalies().await.is_empty());
    fixture.expect(0, 204).await;
    assert_eq!(fixture.kinds().await, one("cadence_anomaly", "medium", 1));
    assert_eq!(fixture.anomalies().await[0].3, "16 heartbeats in 300 s");
    fixture.hub.stop().await;
}

#[tokio::test]
async fn metrics_that_do_not_change() {
    let mut fixture = Fixture::new().await;
    let send_heartbeat = async |fixture: &mut Fixture, cpu_usage: f64| {
        let mut body = fixture.body(0);
        body["cpu_usage"] = json!(cpu_usage);
        assert_eq!(answer(fixture.signed(&body)).await.0, 204);
        fixture.advance(30);
    };
    for _ in 0..9 {
        send_heartbeat(&mut fixture, 12.5).await;
    }
    send_heartbeat(&mut fixture, 12.6).await;
    for _ in 0..9 {
        send_heartbeat(&mut fixture, 12.5).await;
    }
    assert!(
        fixture.anomalies().await.is_empty(),
        "they have moved in between"
    );
    send_heartbeat(&mut fixture, 12.5).await;
    assert_eq!(fixture.kinds().await, one("flat_metrics", "medium", 1));
    send_heartbeat(&mut fixture, 12.5).await;
    assert_eq!(fixture.kinds().await, one("flat_metrics", "medium", 2));
    fixture.hub.stop().await;
}

#[tokio::test]
async fn a_host_that_measures_nothing_is_not_flat() {
    let mut fixture = Fixture::new().await;
    for _ in 0..12 {
        let moment = fixture.body(0)["captured_at"].clone();
        let body = json!({"captured_at": moment, "agent_version": "0.2.0"});
        assert_eq!(answer(fixture.signed(&body)).await.0, 204);
        fixture.advance(30);
    }
    assert!(fixture.anomalies().await.is_empty());
    fixture.hub.stop().await;
}
