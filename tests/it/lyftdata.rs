//! `--dialect lyftdata`: the unchanged commands of "Worker Auto Enrollment".

use std::net::TcpListener;

use reqwest::Method;
use serde_json::{Value, json};

use crate::common::lyftdata::{FILES, JOBS, RUN, SECRET, configure, file, server, worker, workers};
use crate::common::one_answer::answer;
use crate::common::{TestHost, TestHub};

#[test]
fn the_documented_commands_work_unchanged() {
    let (hub, host) = (server(), TestHost::new());
    let shown = hub.get("/api/workers/auto-enrollment");
    assert_eq!(shown["enabled"], true);
    assert!(!shown.to_string().contains(SECRET), "{shown}");
    worker(&host, &hub, "ingest-us-east-01", &RUN)
        .run()
        .expect(0)
        .expect_stderr(&["worker is using auto enrollment"]);
    let id = file(&host, "LYFTDATA_WORKER_ID");
    assert_eq!(workers(&hub), [(id, "ingest-us-east-01".into())]);
    assert_eq!(
        host.names(JOBS),
        [
            ".LYFTDATA_WORKER_API_KEY",
            ".monsys-enrol.lock",
            ".monsys-worker.json",
            "LYFTDATA_WORKER_ID"
        ]
    );
    for name in FILES {
        assert_eq!(host.mode(&format!("{JOBS}/{name}")), 0o600);
    }
    for (path, bytes) in host.files("") {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(SECRET), "{}", path.display());
    }
    // "Future restarts reuse these files, so the auto-enrollment secret is no longer needed."
    configure(&hub, json!({"enabled": false}));
    let again = worker(&host, &hub, "ingest-us-east-01", &RUN)
        .env("LYFTDATA_AUTO_ENROLLMENT_KEY", "")
        .run()
        .expect(0);
    assert!(
        !again.stderr.contains("sending a request"),
        "{}",
        again.stderr
    );
    assert_eq!(workers(&hub).len(), 1);
}

#[test]
fn every_command_supports_the_dialect() {
    let (hub, host) = (server(), TestHost::new());
    let run = |arguments: &[&str]| {
        let arguments = [arguments, &["--output", "json", "--dialect", "lyftdata"]].concat();
        worker(&host, &hub, "w-1", &arguments).run()
    };
    assert_eq!(run(&["status"]).expect(78).json()["state"], "new");
    assert_eq!(run(&["facts"]).expect(0).json(), json!({"name": "w-1"}));
    let dry = run(&["enrol", "--dry-run"]).expect(0).json();
    assert_eq!(dry["request"]["path"], "/api/workers/enroll");
    assert_eq!(dry["request"]["body"], json!({"name": "w-1"}));
    assert_eq!(run(&["doctor"]).expect(0).json()["ok"], true);
    assert!(host.names(JOBS).is_empty() && workers(&hub).is_empty());

    let enrolled = run(&["enrol"]).expect(0).json();
    assert_eq!(
        (&enrolled["result"], &enrolled["name"]),
        (&json!("enrolled"), &json!("w-1"))
    );
    assert_eq!(enrolled["worker"], json!(workers(&hub)[0].0));
    let again = run(&["enrol"]).expect(0).json();
    assert_eq!(
        (&again["result"], &again["changed"]),
        (&json!("already_enrolled"), &json!(false))
    );
    let status = run(&["status"]).expect(0).json();
    assert_eq!(
        (&status["enrolled"], &status["worker"]),
        (&json!(true), &enrolled["worker"])
    );
    for text in [enrolled, again, status] {
        let key = file(&host, ".LYFTDATA_WORKER_API_KEY");
        assert!(!text.to_string().contains(&key), "{text}");
    }
}

#[test]
fn deleting_the_files_forces_a_new_enrolment() {
    let (hub, host) = (server(), TestHost::new());
    worker(&host, &hub, "w-1", &RUN).run().expect(0);
    let id = file(&host, "LYFTDATA_WORKER_ID");
    for name in FILES {
        std::fs::remove_file(host.path(JOBS).join(name)).unwrap();
    }
    // "Delete its files and restart it with the current secret": the old worker may still be at the server.
    worker(&host, &hub, "w-1", &RUN).run().expect(0);
    assert_ne!(file(&host, "LYFTDATA_WORKER_ID"), id);
    assert_eq!(workers(&hub).len(), 2);
}

#[test]
fn other_settings_than_those_of_the_enrolled_worker_are_refused() {
    let (hub, host) = (server(), TestHost::new());
    worker(&host, &hub, "w-1", &RUN).run().expect(0);
    let id = file(&host, "LYFTDATA_WORKER_ID");
    let other = |variable: &str, value: &str, parts: &[&str]| {
        let run = worker(&host, &hub, "w-1", &RUN)
            .env(variable, value)
            .run()
            .expect(64);
        run.expect_stderr(parts);
        worker(&host, &hub, "w-1", &["doctor", "--dialect", "lyftdata"])
            .env(variable, value)
            .run()
            .expect(64);
    };
    other(
        "LYFTDATA_WORKER_ID",
        "id-2",
        &["LYFTDATA_WORKER_ID", "id-2", &id, "rm -f"],
    );
    other(
        "LYFTDATA_WORKER_NAME",
        "w-2",
        &["LYFTDATA_WORKER_NAME", "w-2", "w-1", "rm -f"],
    );
    other(
        "LYFTDATA_URL",
        "https://other.example.com",
        &["another hub", &hub.url(), "other.example.com", "rm -f"],
    );
    worker(&host, &hub, "w-1", &RUN)
        .env("LYFTDATA_WORKER_ID", &id)
        .run()
        .expect(0);
    // The fix that the messages name.
    for name in FILES {
        std::fs::remove_file(host.path(JOBS).join(name)).unwrap();
    }
    worker(&host, &hub, "w-2", &RUN).run().expect(0);
}

#[test]
fn an_enrolled_worker_needs_no_server_to_be_reported() {
    let (hub, host) = (server(), TestHost::new());
    worker(&host, &hub, "w-1", &RUN).run().expect(0);
    let id = file(&host, "LYFTDATA_WORKER_ID");
    let status = |hub_url: &Value, name: &Value| {
        let status = host
            .agent(&["status", "--dialect", "lyftdata", "--output", "json"])
            .run()
            .expect(0)
            .json();
        assert_eq!(
            (&status["worker"], &status["hub_url"], &status["name"]),
            (&json!(id), hub_url, name)
        );
        host.agent(&RUN).run().expect(0).expect_stderr(&[JOBS]);
    };
    status(&json!(hub.url()), &json!("w-1"));
    // LyftData's own program writes no record.
    std::fs::remove_file(host.path(JOBS).join(".monsys-worker.json")).unwrap();
    status(&Value::Null, &Value::Null);
    // A worker that is not enrolled needs a server.
    TestHost::new()
        .agent(&RUN)
        .env("LYFTDATA_WORKER_NAME", "w-1")
        .env("LYFTDATA_AUTO_ENROLLMENT_KEY", SECRET)
        .run()
        .expect(64)
        .expect_stderr(&["no URL is set", "LYFTDATA_URL"]);
}

#[test]
fn doctor_reports_an_enrolled_worker_by_its_files() {
    let (hub, host) = (server(), TestHost::new());
    worker(&host, &hub, "w-1", &RUN).run().expect(0);
    let id = file(&host, "LYFTDATA_WORKER_ID");
    let doctor = |host: &TestHost, code: i32| {
        let doctor = ["doctor", "--dialect", "lyftdata", "--output", "json"];
        host.agent(&doctor).run().expect(code).json()
    };
    let report = doctor(&host, 0);
    assert_eq!(report["ok"], true, "{report}");
    for part in [JOBS, &id, "no hub is set"] {
        assert!(report.to_string().contains(part), "{part}: {report}");
    }
    let report = doctor(&TestHost::new(), 64);
    assert!(report.to_string().contains("no URL is set"), "{report}");
}

/// The user of the worker can write the jobs directory.
#[test]
fn a_planted_record_names_no_server() {
    let (hub, host) = (server(), TestHost::new());
    let record = json!({"hub_url": hub.url(), "name": "w-1", "worker": "x", "sent_at": ""});
    let path = format!("{JOBS}/.monsys-worker.json");
    host.write_file(path.trim_start_matches('/'), &record.to_string());
    let ca_file = host.install_ca(&hub).unwrap();
    host.agent(&RUN)
        .env("LYFTDATA_WORKER_NAME", "w-1")
        .env("LYFTDATA_AUTO_ENROLLMENT_KEY", SECRET)
        .env("MONSYS_CA_FILE", ca_file.to_str().unwrap())
        .run()
        .expect(64)
        .expect_stderr(&["no URL is set"]);
    assert!(workers(&hub).is_empty());
}

#[test]
fn a_rotated_secret_and_a_disabled_enrollment_are_rejected() {
    let hub = server();
    configure(
        &hub,
        json!({"enabled": true, "enrollment_secret": "another-secret"}),
    );
    let host = TestHost::new();
    worker(&host, &hub, "w-1", &RUN).run().expect(77);
    configure(&hub, json!({"enabled": false}));
    worker(&host, &hub, "w-1", &RUN)
        .env("LYFTDATA_AUTO_ENROLLMENT_KEY", "another-secret")
        .run()
        .expect(77)
        .expect_stderr(&["not enabled"]);
    assert!(workers(&hub).is_empty());
}

#[test]
fn a_lost_response_makes_no_second_worker_and_the_next_run_prints_a_hint() {
    let (hub, host) = (server(), TestHost::new());
    hub.fault(json!({"route": "lyftdata-enroll", "reset": "after", "times": 1}));
    let lost = [
        "already exists",
        "a response to this host was lost",
        "an admin removes that worker",
    ];
    worker(&host, &hub, "w-1", &RUN)
        .run()
        .expect(65)
        .expect_stderr(&lost);
    // The next run reports it as well.
    worker(&host, &hub, "w-1", &RUN)
        .run()
        .expect(65)
        .expect_stderr(&lost);
    let [(id, _)] = &workers(&hub)[..] else {
        panic!("not one worker");
    };
    hub.call(Method::DELETE, &format!("/api/workers/{id}"), None);
    worker(&host, &hub, "w-1", &RUN).run().expect(0);
    assert_eq!(workers(&hub).len(), 1);
    assert!(!host.names(JOBS).contains(&".monsys-enrol.json".into()));
}

#[test]
fn a_confirmed_key_is_stored_by_the_next_run_without_the_server() {
    let host = TestHost::new();
    let confirmed = json!({"name": "w-1", "asked_at": "2026-01-01T00:00:00Z",
        "confirmed": {"worker": "worker-7", "name": "w-1", "api_key": "key-1"}});
    host.write_file(
        &format!("{JOBS}/.monsys-enrol.json"),
        &confirmed.to_string(),
    );
    host.agent(&["enrol", "--dialect", "lyftdata"])
        .env("LYFTDATA_URL", "https://127.0.0.1:9")
        .run()
        .expect(0);
    assert_eq!(file(&host, "LYFTDATA_WORKER_ID"), "worker-7");
    assert_eq!(file(&host, ".LYFTDATA_WORKER_API_KEY"), "key-1");
    assert!(!host.names(JOBS).contains(&".monsys-enrol.json".into()));
}

#[test]
fn the_secret_is_never_sent_and_each_try_has_a_fresh_nonce() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = std::thread::spawn(move || {
        ["503 Service Unavailable", "401 Unauthorized"].map(|status| answer(&listener, status))
    });
    let run = TestHost::new()
        .agent(&["enrol", "--dialect", "lyftdata"])
        .env("LYFTDATA_URL", &url)
        .env("LYFTDATA_WORKER_NAME", "w-1")
        .env("LYFTDATA_AUTO_ENROLLMENT_KEY", SECRET)
        .run()
        .expect(77);
    assert!(!run.stderr.contains(SECRET));
    let nonces = seen.join().unwrap().map(|request| {
        assert!(!request.text.contains(SECRET), "{}", request.text);
        let body = request.body;
        let nonce = body["nonce"].as_str().unwrap().to_owned();
        assert!(
            nonce.len() == 32 && body["hmac"].as_str().unwrap().len() == 64,
            "{body}"
        );
        nonce
    });
    assert_ne!(nonces[0], nonces[1]);
}

#[test]
fn an_unwritable_jobs_directory_is_reported_before_any_request() {
    let (hub, host) = (server(), TestHost::new());
    host.write_file("var/lib/lyftdata-worker", "a file in the directory's place");
    // The hint is one that this dialect reads.
    worker(&host, &hub, "w-1", &RUN)
        .run()
        .expect(73)
        .expect_stderr(&["--worker-jobs-dir"]);
    // A flag that this dialect has no use for is not ignored.
    let other = [&RUN[..], &["--state-dir", "/other"]].concat();
    worker(&host, &hub, "w-1", &other)
        .run()
        .expect(64)
        .expect_stderr(&["--state-dir", "lyftdata", "--worker-jobs-dir"]);
    assert!(workers(&hub).is_empty());
}

#[test]
fn concurrent_enrolments_make_one_worker_each() {
    let hub: TestHub = server();
    let hosts: Vec<TestHost> = (0..8).map(|_| TestHost::new()).collect();
    // Two processes for each host.
    let children: Vec<_> = hosts
        .iter()
        .enumerate()
        .flat_map(|(number, host)| {
            let start = || worker(host, &hub, &format!("w-{number}"), &RUN).start();
            [start(), start()]
        })
        .collect();
    for child in children {
        crate::common::Run::of(child).expect(0);
    }
    assert_eq!(workers(&hub).len(), 8);
}

#[test]
fn install_explains_that_the_worker_is_a_separate_program() {
    let (hub, host) = (server(), TestHost::new());
    worker(&host, &hub, "w-1", &["install", "--dialect", "lyftdata"])
        .run()
        .expect(64)
        .expect_stderr(&["a service program of its own", "monsys-agent enrol"]);
    assert!(workers(&hub).is_empty());
}

#[test]
fn an_odd_name_in_the_response_does_not_cost_the_key() {
    for name in ["null", "7", "[]"] {
        let (hub, host) = (server(), TestHost::new());
        let body = format!(r#"{{"worker": "w-1", "api_key": "durable", "name": {name}}}"#);
        hub.fault(json!({"route": "lyftdata-enroll", "body": body}));
        worker(&host, &hub, "w", &RUN).run().expect(0);
        assert_eq!(file(&host, "LYFTDATA_WORKER_ID"), "w-1");
    }
}
