//! Heartbeats that the hub takes, and doubts.

use crate::clients::{Caller, answer};
use crate::heartbeat::Scene;
use mock_hub::Options;
use serde_json::json;

impl Scene {
    /// Kind, severity and occurrences of each doubt.
    async fn kinds(&self) -> Vec<(String, String, u64)> {
        let doubts = self.doubts().await.into_iter();
        doubts
            .map(|(kind, severity, n, _)| (kind, severity, n))
            .collect()
    }
}

fn one(kind: &str, severity: &str, occurrences: u64) -> Vec<(String, String, u64)> {
    vec![(kind.to_owned(), severity.to_owned(), occurrences)]
}

#[tokio::test]
async fn an_honest_host_is_never_doubted() {
    let mut scene = Scene::new().await;
    for _ in 0..30 {
        scene.expect(0, 204).await;
        scene.advance(28);
    }
    // Twice at once, as after a restart of the service; and a reboot of some minutes.
    scene.expect(0, 204).await;
    scene.advance(240);
    scene.expect(0, 204).await;
    assert!(scene.doubts().await.is_empty());
    let heartbeat = &scene.row().await["last_heartbeat"];
    assert_eq!(heartbeat["cpu_usage"], 31.0, "the last one is kept");
    scene.hub.stop().await;
}

#[tokio::test]
async fn a_lower_version_than_before() {
    let mut scene = Scene::new().await;
    let beat = async |scene: &Scene, version: &str| {
        let mut body = scene.body(0);
        body["agent_version"] = json!(version);
        assert_eq!(answer(scene.signed(&body)).await.0, 204);
    };
    beat(&scene, "0.2.0").await;
    beat(&scene, "0.10.0").await;
    assert!(scene.doubts().await.is_empty());
    beat(&scene, "0.9.0").await;
    assert_eq!(scene.kinds().await, one("version_downgrade", "high", 1));
    scene.advance(30);
    beat(&scene, "0.9.0").await;
    assert_eq!(scene.kinds().await, one("version_downgrade", "high", 1));
    scene.hub.stop().await;
}

#[tokio::test]
async fn a_long_silence() {
    let mut scene = Scene::new().await;
    scene.expect(0, 204).await;
    scene.advance(301);
    scene.expect(0, 204).await;
    assert_eq!(scene.kinds().await, one("cadence_anomaly", "medium", 1));
    let detail = scene.doubts().await.remove(0).3;
    assert!(detail.starts_with("no heartbeat for 30"), "{detail}");
    scene.hub.stop().await;
}

#[tokio::test]
async fn the_hubs_own_absence_is_no_silence() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options {
        database: Some(dir.path().join("hub.db")),
        ..Options::default()
    };
    let mut scene = Scene::with(options.clone()).await;
    scene.expect(0, 204).await;
    scene.hub.stop().await;
    // An hour goes by.
    let database = rusqlite::Connection::open(dir.path().join("hub.db")).expect("a database");
    for sql in [
        "UPDATE agents SET heartbeat_at = heartbeat_at - 3600000",
        "UPDATE heartbeats SET received_at = received_at - 3600000",
    ] {
        assert_eq!(database.execute(sql, []), Ok(1));
    }
    drop(database);
    scene.hub = mock_hub::start(options).await.expect("the hub starts");
    scene.operator = Caller::of(&scene.hub);
    scene.expect(0, 204).await;
    assert!(scene.doubts().await.is_empty());
    scene.hub.stop().await;
}

#[tokio::test]
async fn more_heartbeats_than_one_host_sends() {
    let mut scene = Scene::new().await;
    for _ in 0..15 {
        scene.expect(0, 204).await;
        scene.advance(10);
    }
    assert!(scene.doubts().await.is_empty());
    scene.expect(0, 204).await;
    assert_eq!(scene.kinds().await, one("cadence_anomaly", "medium", 1));
    assert_eq!(scene.doubts().await[0].3, "16 heartbeats in 300 s");
    scene.hub.stop().await;
}

#[tokio::test]
async fn metrics_that_stand_still() {
    let mut scene = Scene::new().await;
    let beat = async |scene: &mut Scene, cpu_usage: f64| {
        let mut body = scene.body(0);
        body["cpu_usage"] = json!(cpu_usage);
        assert_eq!(answer(scene.signed(&body)).await.0, 204);
        scene.advance(30);
    };
    for _ in 0..9 {
        beat(&mut scene, 12.5).await;
    }
    beat(&mut scene, 12.6).await;
    for _ in 0..9 {
        beat(&mut scene, 12.5).await;
    }
    assert!(
        scene.doubts().await.is_empty(),
        "they have moved in between"
    );
    beat(&mut scene, 12.5).await;
    assert_eq!(scene.kinds().await, one("flat_metrics", "medium", 1));
    beat(&mut scene, 12.5).await;
    assert_eq!(scene.kinds().await, one("flat_metrics", "medium", 2));
    scene.hub.stop().await;
}

#[tokio::test]
async fn a_host_that_measures_nothing_is_not_flat() {
    let mut scene = Scene::new().await;
    for _ in 0..12 {
        let moment = scene.body(0)["captured_at"].clone();
        let body = json!({"captured_at": moment, "agent_version": "0.2.0"});
        assert_eq!(answer(scene.signed(&body)).await.0, 204);
        scene.advance(30);
    }
    assert!(scene.doubts().await.is_empty());
    scene.hub.stop().await;
}
