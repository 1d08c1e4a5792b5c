//! Hosts that fall silent: what the hub's worker finds, while nobody calls.

use crate::clients::{Agent, Caller, Host, click, hub_with};
use crate::heartbeat::Fixture;
use mock_hub::Options;
use serde_json::{Value, json};
use std::path::Path;

impl Fixture {
    /// Returns the occurrences and details of the agent's silences.
    async fn silences(&self) -> Vec<(u64, String)> {
        let rows = self.anomalies().await.into_iter();
        rows.map(|(kind, severity, occurrences, detail)| {
            assert_eq!(
                (kind.as_str(), severity.as_str()),
                ("cadence_anomaly", "medium")
            );
            (occurrences, detail)
        })
        .collect()
    }

    async fn resolve_all(&self) {
        let (_, list) = self.operator.get("/api/v1/integrity").await;
        for row in list["anomalies"].as_array().expect("a list") {
            let path = format!("/api/v1/integrity/{}/resolve", row["id"]);
            assert_eq!(self.operator.post(&path, &json!({})).await.0, 200);
        }
    }

    /// Stops the hub, lets `change` edit its database, and starts a hub on the same file.
    async fn restart(mut self, options: &Options, change: &[&str]) -> Self {
        self.hub.stop().await;
        let file = options.database.as_deref().expect("a file");
        let database = rusqlite::Connection::open(file).expect("a database");
        for sql in change {
            assert_eq!(database.execute(sql, []), Ok(1), "{sql}");
        }
        drop(database);
        self.hub = hub_with(options.clone()).await;
        self.operator = Caller::of(&self.hub);
        self
    }
}

fn stored_in(dir: &Path) -> Options {
    Options {
        database: Some(dir.join("hub.db")),
        ..Options::default()
    }
}

#[tokio::test]
async fn a_host_that_never_returns_is_found_once() {
    let mut fixture = Fixture::new().await;
    fixture.expect(0, 204).await;
    fixture.advance(299);
    assert!(fixture.anomalies().await.is_empty());
    fixture.advance(2);
    let silences = fixture.silences().await;
    assert_eq!(silences.len(), 1);
    assert!(
        silences[0].1.starts_with("no heartbeat since 20"),
        "{silences:?}"
    );
    for _ in 0..6 {
        fixture.advance(600);
        assert_eq!(fixture.silences().await, silences, "one, not one per check");
    }
    fixture.hub.stop().await;
}

#[tokio::test]
async fn a_silence_is_found_at_most_ten_minutes_after_it_is_one() {
    let mut fixture = Fixture::new().await;
    fixture.advance(301);
    fixture.resolve_all().await;
    // The next check is due at 901 s, and the silence begins just too late for it.
    fixture.advance(301);
    fixture.expect(0, 204).await;
    fixture.resolve_all().await;
    fixture.advance(299);
    assert!(fixture.anomalies().await.is_empty());
    fixture.advance(599);
    assert!(
        fixture.anomalies().await.is_empty(),
        "the next is at 1501 s"
    );
    fixture.advance(2);
    assert_eq!(fixture.silences().await.len(), 1);
    fixture.hub.stop().await;
}

#[tokio::test]
async fn a_return_ends_the_silence_and_the_next_one_counts() {
    let mut fixture = Fixture::new().await;
    fixture.expect(0, 204).await;
    fixture.advance(901);
    assert_eq!(fixture.silences().await.len(), 1);
    fixture.expect(0, 204).await;
    let ended = fixture.silences().await.remove(0);
    assert_eq!(ended.0, 1, "the return is the same silence");
    assert!(ended.1.starts_with("no heartbeat for 90"), "{}", ended.1);
    fixture.advance(901);
    assert_eq!(fixture.silences().await[0].0, 2);
    fixture.hub.stop().await;
}

#[tokio::test]
async fn a_resolved_silence_is_not_found_again_and_the_next_is_a_new_row() {
    let mut fixture = Fixture::new().await;
    fixture.expect(0, 204).await;
    fixture.advance(901);
    fixture.resolve_all().await;
    fixture.advance(3_600);
    assert!(
        fixture.anomalies().await.is_empty(),
        "still the same silence"
    );
    fixture.expect(0, 204).await;
    assert!(fixture.anomalies().await.is_empty(), "and so is its end");
    fixture.advance(901);
    assert_eq!(fixture.silences().await[0].0, 1);
    let (_, all) = fixture.operator.get("/api/v1/integrity?state=all").await;
    assert_eq!(all["anomalies"].as_array().map(Vec::len), Some(2));
    fixture.hub.stop().await;
}

#[tokio::test]
async fn only_a_host_that_has_enrolled_can_be_silent() {
    let mut fixture = Fixture::new().await;
    let gone = Host::new();
    let created = fixture.operator.create_token(1, json!({})).await;
    let agent = Agent::enrol(&gone, &fixture.operator, &created.token).await;
    assert_eq!(gone.unenrol(&fixture.operator, &agent).await.0, 204);
    let deleted = Host::new();
    let created = fixture.operator.create_token(1, json!({})).await;
    let agent = Agent::enrol(&deleted, &fixture.operator, &created.token).await;
    let path = format!("/api/v1/agents/{}", agent.id);
    assert_eq!(fixture.operator.delete(&path).await.0, 204);
    click(&fixture.operator, &json!({})).await;
    fixture.advance(86_400);
    // `silences` checks that the row is that of the fixture's agent, which has sent no heartbeat.
    let silences = fixture.silences().await;
    assert_eq!(silences.len(), 1);
    assert!(
        silences[0]
            .1
            .starts_with("no heartbeat since the enrolment at 20"),
        "{silences:?}"
    );
    // Enrolling again does not end it; the first heartbeat does.
    fixture
        .host
        .register(&fixture.operator, &fixture.agent.token)
        .await;
    fixture.advance(600);
    assert_eq!(fixture.silences().await, silences);
    fixture.expect(0, 204).await;
    assert!(
        fixture.silences().await[0]
            .1
            .starts_with("no heartbeat for 87")
    );
    fixture.hub.stop().await;
}

#[tokio::test]
async fn a_service_that_starts_late_after_the_enrolment_is_not_silent() {
    let mut fixture = Fixture::with(Options {
        integrity_check_secs: 86_400,
        ..Options::default()
    })
    .await;
    // Past the first check, which is due when a host can be silent for the first time.
    fixture.advance(250);
    let host = Host::new();
    let created = fixture.operator.create_token(1, json!({})).await;
    let agent = Agent::enrol(&host, &fixture.operator, &created.token).await;
    fixture.advance(51);
    fixture.advance(600);
    let call = host.heartbeat(&fixture.operator, &agent, &fixture.body(0));
    assert_eq!(crate::clients::answer(call).await.0, 204);
    assert!(fixture.operator.anomalies(&agent.id).await.is_empty());
    fixture.hub.stop().await;
}

#[tokio::test]
async fn a_found_silence_stays_one_over_restarts() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = stored_in(dir.path());
    let mut fixture = Fixture::with(options.clone()).await;
    fixture.expect(0, 204).await;
    fixture.advance(301);
    let silences = fixture.silences().await;
    assert_eq!(silences.len(), 1);
    // The clock that a test has advanced starts again; an hour goes by.
    let hour = "UPDATE agents SET heartbeat_at = heartbeat_at - 3600000";
    let moved = "UPDATE anomalies SET silent_since = silent_since - 3600000";
    fixture = fixture.restart(&options, &[hour, moved]).await;
    fixture.advance(901);
    assert_eq!(fixture.silences().await, silences);
    fixture.resolve_all().await;
    fixture = fixture.restart(&options, &[]).await;
    fixture.advance(901);
    assert!(fixture.anomalies().await.is_empty());
    fixture.hub.stop().await;
}

#[tokio::test]
async fn the_downtime_of_the_hub_is_not_silence_of_a_host() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = stored_in(dir.path());
    let fixture = Fixture::with(options.clone()).await;
    fixture.expect(0, 204).await;
    let hour = "UPDATE agents SET heartbeat_at = heartbeat_at - 3600000";
    let mut fixture = fixture.restart(&options, &[hour]).await;
    fixture.advance(299);
    assert!(
        fixture.anomalies().await.is_empty(),
        "ten intervals to return"
    );
    fixture.advance(2);
    assert_eq!(fixture.silences().await.len(), 1, "it has not returned");
    fixture.hub.stop().await;
}

#[tokio::test]
async fn a_clock_that_was_set_back_hides_no_silence() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = stored_in(dir.path());
    let fixture = Fixture::with(options.clone()).await;
    fixture.expect(0, 204).await;
    let year = "UPDATE agents SET heartbeat_at = heartbeat_at + 31557600000";
    let mut fixture = fixture.restart(&options, &[year]).await;
    fixture.hub.set_clock_by(-86_400_000);
    fixture.advance(301);
    let silences = fixture.silences().await;
    assert_eq!(silences.len(), 1);
    fixture.hub.set_clock_by(40 * 31_557_600_000);
    fixture.advance(600);
    assert_eq!(fixture.silences().await, silences);
    fixture.hub.stop().await;
}

/// The worker's own timer, with the shortest period and interval.
#[tokio::test]
async fn the_worker_checks_by_itself() {
    let mut fixture = Fixture::with(Options {
        heartbeat_interval_secs: 1,
        integrity_check_secs: 1,
        ..Options::default()
    })
    .await;
    fixture.expect(0, 204).await;
    fixture.advance(9);
    while fixture.anomalies().await.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(fixture.silences().await[0].0, 1);
    fixture.hub.stop().await;
}

/// A file of the schema before: anomalies without a state, and an audit without a last use.
#[tokio::test]
async fn a_database_of_schema_2_is_brought_up_to_date() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = stored_in(dir.path());
    let file = options.database.as_deref().expect("a file");
    let database = rusqlite::Connection::open(file).expect("a database");
    let schema = include_str!("../../../crates/hub/src/database/schema_2.sql");
    database
        .execute_batch(&format!(
            "{schema}
             INSERT INTO enrolment_tokens VALUES ('00000000-0000-4000-8000-000000000001', 'old',
                 x'01', 1, 1, '[]', NULL, '[]', 1, 2, NULL);
             INSERT INTO agents (id, token_sha256, signing_pubkey, admitted_by, default_tags, tags,
                                 created_at, last_seen_at)
             VALUES ('00000000-0000-4000-8000-00000000000a', x'02', x'03',
                     '00000000-0000-4000-8000-000000000001', '[]', '[]', 5, 6);
             INSERT INTO heartbeats VALUES ('00000000-0000-4000-8000-00000000000a', x'04', 7);
             INSERT INTO enrolment_uses VALUES (1, '00000000-0000-4000-8000-000000000001',
                 '00000000-0000-4000-8000-00000000000a', '192.0.2.7', 8);
             INSERT INTO anomalies VALUES (1, '00000000-0000-4000-8000-00000000000a',
                 'signature_invalid', 'old', '192.0.2.8', 3, 9, 10);"
        ))
        .expect("schema 2");
    drop(database);
    let hub = hub_with(options).await;
    let operator = Caller::of(&hub);
    hub.advance_clock(std::time::Duration::from_secs(901));
    let (_, list) = operator.get("/api/v1/integrity").await;
    let kinds: Vec<&Value> = list["anomalies"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| &row["kind"])
        .collect();
    assert_eq!(kinds, ["signature_invalid", "cadence_anomaly"], "{list}");
    let old = &list["anomalies"][0];
    assert_eq!(
        (&old["severity"], &old["occurrences"], &old["state"]),
        (&json!("critical"), &json!(3), &json!("open"))
    );
    let path = "/api/v1/enrolment-tokens/00000000-0000-4000-8000-000000000001";
    let (_, token) = operator.get(path).await;
    assert_eq!(token["last_used_from"], "192.0.2.7");
    assert_eq!(token["last_used_at"], "1970-01-01T00:00:00.008Z");
    hub.stop().await;
}
