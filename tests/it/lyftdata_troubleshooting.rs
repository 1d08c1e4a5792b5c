//! The rows of `LyftData`'s troubleshooting table, in its order: a test for each, by its name.

use serde_json::json;

use crate::common::TestHost;
use crate::common::lyftdata::{FILES, JOBS, RUN, SECRET, configure, file, server, worker, workers};

#[test]
fn worker_exits_immediately() {
    let (hub, host) = (server(), TestHost::new());
    // "Secret missing, worker name unset, or cached ID/API key mismatch"
    worker(&host, &hub, "w-1", &RUN)
        .env("LYFTDATA_AUTO_ENROLLMENT_KEY", "")
        .run()
        .expect(64)
        .expect_stderr(&["LYFTDATA_AUTO_ENROLLMENT_KEY"]);
    for name in ["", "  "] {
        worker(&host, &hub, name, &RUN)
            .run()
            .expect(64)
            .expect_stderr(&["unique name", "LYFTDATA_WORKER_NAME"]);
    }
    for (there, missing) in [(FILES[0], FILES[1]), (FILES[1], FILES[0])] {
        let host = TestHost::new();
        host.write_file(&format!("{JOBS}/{there}"), "x");
        worker(&host, &hub, "w-1", &RUN)
            .run()
            .expect(78)
            .expect_stderr(&[there, missing, "rm -f"]);
    }
    assert!(workers(&hub).is_empty());
}

#[test]
fn unauthorized_401_in_worker_logs() {
    let (hub, host) = (server(), TestHost::new());
    worker(&host, &hub, "w-1", &RUN)
        .env("LYFTDATA_AUTO_ENROLLMENT_KEY", "wrong-secret")
        .run()
        .expect(77)
        .expect_stderr(&[
            "401",
            "the secret of this worker is wrong",
            "refresh LYFTDATA_AUTO_ENROLLMENT_KEY",
        ]);
    // A definite rejection leaves no pending request.
    assert_eq!(host.names(JOBS), [".monsys-enrol.lock"]);
    worker(&host, &hub, "w-1", &RUN).run().expect(0);
}

#[test]
fn community_edition_only_supports_the_built_in_worker() {
    let (hub, host) = (server(), TestHost::new());
    hub.post("/api/workers/edition", json!({"community": true}));
    worker(&host, &hub, "w-1", &RUN)
        .run()
        .expect(65)
        .expect_stderr(&[
            "Community Edition only supports the built-in worker",
            "manual API key",
        ]);
}

#[test]
fn repeated_enrollments_reuse_the_same_api_key() {
    let hub = server();
    let enrolled = |name: &str| {
        let host = TestHost::new();
        worker(&host, &hub, name, &RUN).run().expect(0);
        file(&host, ".LYFTDATA_WORKER_API_KEY")
    };
    let keys = ["w-1", "w-2", "w-3"].map(enrolled);
    assert!(keys.iter().all(|key| *key == keys[0] && !key.is_empty()));
    assert_eq!(workers(&hub).len(), 3);
    // "Rotate the shared API key": future enrollments return the new one.
    configure(
        &hub,
        json!({"enabled": true, "enrollment_secret": SECRET, "enrollment_api_key": "key-2"}),
    );
    assert_eq!(enrolled("w-4"), "key-2");
}

#[test]
fn worker_never_appears_since_its_id_already_exists() {
    let (hub, first, second) = (server(), TestHost::new(), TestHost::new());
    let with_id = |host: &TestHost, name: &str| {
        worker(host, &hub, name, &RUN).env("LYFTDATA_WORKER_ID", "worker-7")
    };
    with_id(&first, "w-1").run().expect(0);
    assert_eq!(file(&first, "LYFTDATA_WORKER_ID"), "worker-7");
    with_id(&second, "w-2").run().expect(65).expect_stderr(&[
        "requested worker ID worker-7",
        "already exists",
        "clear LYFTDATA_WORKER_ID, or choose a different --worker-name",
    ]);
    worker(&second, &hub, "w-2", &RUN).run().expect(0);
    // A server with unique names: its own words are reported.
    hub.fault(
        json!({"route": "lyftdata-enroll", "status": 409, "times": 1,
        "body": r#"{"message": "the name w-1 already exists here"}"#}),
    );
    let third = TestHost::new();
    worker(&third, &hub, "w-1", &RUN)
        .run()
        .expect(65)
        .expect_stderr(&["the name w-1 already exists here", "--worker-name"]);
    let other = [&RUN[..], &["--worker-name", "w-3"]].concat();
    worker(&third, &hub, "w-1", &other).run().expect(0);
}
