//! The database file, which one hub has open at a time.

use crate::clients::{Agent, Caller, Host, hub_with};
use crate::program::{Running, refused};
use mock_hub::Options;
use nix::sys::signal::Signal;
use ring::hmac;
use rusqlite::backup::Backup;
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

#[test]
fn a_second_hub_on_one_file_is_refused_by_whatever_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    let database = path("hub.db");
    let hub = Running::start(&["--http", "--database", text(&database)]);

    fs::create_dir(path("deeper")).expect("a directory");
    fs::hard_link(&database, path("hard.db")).expect("a link");
    symlink(&database, path("soft.db")).expect("a link");
    symlink(dir.path(), path("up")).expect("a link");
    for name in [
        "hub.db",
        "./hub.db",
        "deeper/../hub.db",
        "hard.db",
        "soft.db",
        "up/hub.db",
    ] {
        let other = path(name);
        let said = refused(&["--http", "--database", text(&other)]);
        assert!(
            said.contains(text(&other)) && said.contains("another hub has it open"),
            "{said}"
        );
        assert!(said.contains("stop the other hub"), "{said}");
    }
    // Another hub may have another file.
    let other = path("other.db");
    Running::start(&["--http", "--database", text(&other)]).end(Signal::SIGTERM);

    // By SIGKILL: the kernel drops the lock.
    drop(hub);
    let hub = Running::start(&["--http", "--database", text(&database)]);
    hub.end(Signal::SIGTERM);
    Running::start(&["--http", "--database", text(&database)]).end(Signal::SIGTERM);
}

#[tokio::test]
async fn two_hubs_of_one_process_do_not_share_a_file_either() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = || Options {
        database: Some(dir.path().join("hub.db")),
        ..Options::default()
    };
    let hub = hub_with(options()).await;
    let Err(cause) = mock_hub::start(options()).await else {
        panic!("it starts");
    };
    assert!(
        cause.to_string().contains("another hub has it open"),
        "{cause}"
    );
    hub.stop().await;
    hub_with(options()).await.stop().await;
}

#[tokio::test]
async fn a_backup_is_made_while_the_hub_runs() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = |name: &str| Options {
        database: Some(dir.path().join(name)),
        admin_token_file: Some(dir.path().join("admin-token")),
        ..Options::default()
    };
    let hub = hub_with(options("hub.db")).await;
    let operator = Caller::of(&hub);
    let created = operator.create_token(2, json!({})).await;
    let host = Host::new();
    let agent = Agent::enrol(&host, &operator, &created.token).await;

    let source = rusqlite::Connection::open(dir.path().join("hub.db")).expect("the database");
    let mut copy = rusqlite::Connection::open(dir.path().join("copy.db")).expect("a database");
    Backup::new(&source, &mut copy)
        .and_then(|backup| backup.run_to_completion(100, Duration::ZERO, None))
        .expect("a backup");
    drop((source, copy));
    // The hub still writes after others have closed the file.
    Agent::enrol(&Host::new(), &operator, &created.token).await;

    let restored = hub_with(options("copy.db")).await;
    let operator = Caller::of(&restored);
    assert_eq!(operator.uses(&created).await, (1, 1));
    assert_eq!(host.register(&operator, &agent.token).await.0, 200);
    restored.stop().await;
    hub.stop().await;
}

/// Earlier releases wanted unique names of LyftData's workers.
#[tokio::test]
async fn workers_of_an_old_database_stay_and_their_names_need_not_be_unique() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = || Options {
        database: Some(dir.path().join("hub.db")),
        admin_token_file: Some(dir.path().join("admin-token")),
        ..Options::default()
    };
    hub_with(options()).await.stop().await;
    let old = rusqlite::Connection::open(dir.path().join("hub.db")).expect("the database");
    old.execute_batch(
        "DROP TABLE lyftdata_workers_2;
         CREATE TABLE lyftdata_workers (
             worker      TEXT PRIMARY KEY,
             name        TEXT NOT NULL UNIQUE,
             api_key     TEXT NOT NULL,
             enrolled_at INTEGER NOT NULL
         ) STRICT;
         INSERT INTO lyftdata_workers VALUES ('w-1', 'ingest', 'key', 1700000000000);",
    )
    .expect("an old table");
    drop(old);

    let body = |id: &str, nonce: &str| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"s3cret-of-workers");
        let proof = hmac::sign(&key, format!("{nonce}\ningest").as_bytes());
        let proof = proof
            .as_ref()
            .iter()
            .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        json!({"name": "ingest", "worker": id, "nonce": nonce, "hmac": proof})
    };
    // The second start moves nothing.
    for (id, nonce) in [("w-2", "2".repeat(32)), ("w-3", "3".repeat(32))] {
        let hub = hub_with(options()).await;
        let operator = Caller::of(&hub);
        let rules = json!({"enabled": true, "enrollment_secret": "s3cret-of-workers"});
        operator.post("/api/workers/auto-enrollment", &rules).await;
        let (status, answer) = operator
            .post("/api/workers/enroll", &body(id, &nonce))
            .await;
        assert_eq!(status, 200, "{answer}");
        let (_, workers) = operator.get("/api/workers").await;
        let workers = workers.as_array().expect("a list");
        assert_eq!(workers[0]["worker"], "w-1");
        assert!(workers.iter().all(|worker| worker["name"] == "ingest"));
        assert!(workers.iter().any(|worker| worker["worker"] == id));
        hub.stop().await;
    }
}

/// SQLite has names for a database in memory, and for URIs with settings.
#[tokio::test]
async fn a_database_path_is_never_a_name_of_sqlite() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in [":memory:", "file:x.db?mode=memory"] {
        let mut command = crate::program::program(&["--http", "--database", name]);
        let hub = Running::of(command.current_dir(dir.path()));
        hub.caller().create_token(1, json!({})).await;
        hub.end(Signal::SIGTERM);
        let written = fs::metadata(dir.path().join(name)).expect("the file");
        assert!(written.len() > 0, "{name}");
    }
}
