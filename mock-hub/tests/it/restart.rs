//! A database in a file: what it stores, and the tokens that it must never contain.

use crate::clients::{Agent, Caller, Host, hub_with};
use mock_hub::Options;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

#[tokio::test]
async fn a_restart_forgets_nothing_and_the_file_holds_no_token() {
    let dir = tempfile::tempdir().expect("a directory");
    let database = dir.path().join("hub.db");
    let options = || Options {
        database: Some(database.clone()),
        admin_token_file: Some(dir.path().join("admin-token")),
        ..Options::default()
    };
    let hub = hub_with(options()).await;
    let operator = Caller::of(&hub);
    let created = operator
        .create_token(2, json!({"default_tags": ["prod"]}))
        .await;
    let host = Host::new();
    let agent = Agent::enrol(&host, &operator, &created.token).await;
    assert_eq!(Host::new().register(&operator, &agent.token).await.0, 403);
    let paths = [
        created.path.clone(),
        format!("{}/uses", created.path),
        "/api/v1/agents".to_owned(),
        "/api/v1/integrity".to_owned(),
    ];
    let mut before = Vec::new();
    for path in &paths {
        before.push(operator.get(path).await);
    }
    // While the hub runs, with the write-ahead log, and after it has stopped.
    no_token_in(dir.path());
    hub.stop().await;
    no_token_in(dir.path());
    let mode = fs::metadata(&database)
        .expect("the file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    let hub = hub_with(options()).await;
    let operator = Caller::of(&hub);
    for (path, before) in paths.iter().zip(before) {
        assert_eq!(operator.get(path).await, before, "{path}");
    }
    assert_eq!(host.register(&operator, &agent.token).await.0, 200);
    assert_eq!(host.enrol(&operator, &created.token).await.0, 200);
    Agent::enrol(&Host::new(), &operator, &created.token).await;
    assert_eq!(Host::new().enrol(&operator, &created.token).await.0, 401);
    hub.stop().await;
}

fn no_token_in(dir: &std::path::Path) {
    let mut databases = 0;
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let bytes = fs::read(&path).expect("a file");
        if !path.ends_with("admin-token") {
            databases += 1;
            for prefix in [&b"enrl_"[..], b"agt_", b"adm_"] {
                let found = bytes.windows(prefix.len()).any(|window| window == prefix);
                assert!(!found, "{}", path.display());
            }
        }
    }
    assert!(databases > 0);
}
