//! A host after its enrolment into Mimir: heartbeats, and renewal of its certificate.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::time::Duration;

use serde_json::json;

use crate::common::{SERVICE_USER, Service, TestHost, TestHub, needs_root, until};
use crate::mimir::{agents, enrol, file, later, mint, on, uses};

const DAY: u64 = 86_400;

/// Makes an enrolled host whose certificate is `days` of 90 days old; later certificates are new.
fn enrolled(hub: &TestHub, days: u64) -> TestHost {
    let host = TestHost::new();
    let (secret, _) = mint(hub, Some(1));
    let rules = |days: u64| json!({"lifetime_secs": 90 * DAY, "age_secs": days * DAY});
    hub.post("mimir/certificates", rules(days));
    enrol(&host, hub, &secret).run().expect(0);
    hub.post("mimir/certificates", rules(0));
    host
}

fn certificates(hub: &TestHub) -> u64 {
    agents(hub)[0]["certificates"].as_u64().unwrap()
}

#[test]
fn a_certificate_is_renewed_after_two_thirds_of_its_lifetime() {
    let hub = TestHub::new();
    let host = enrolled(&hub, 61);
    let before = [file(&host, "client.key"), file(&host, "client.pem")];
    // The first response is lost, and the second try succeeds.
    hub.fault(json!({"route": "mimir-renew", "reset": "after"}));
    let service = Service::of(later(&host, &["run"]));
    until("a renewal", || file(&host, "client.pem") != before[1]);
    let health = || later(&host, &["status", "--output", "json"]).run().json();
    until("a heartbeat", || health()["heartbeats"] == "ok");
    service
        .stop()
        .expect(0)
        .expect_stderr(&["renewed the client certificate"]);
    assert_eq!(certificates(&hub), 3);
    assert_eq!(file(&host, "client.key"), before[0]);
    assert_eq!((agents(&hub).len(), uses(&hub).as_str()), (1, "1 / 1"));
    // The next service uses the new certificate and does not renew it.
    let seen = || agents(&hub)[0]["last_seen_at"].clone();
    let last = seen();
    let service = Service::of(later(&host, &["run"]));
    until("a heartbeat", || seen() != last);
    service.stop().expect(0);
    assert_eq!(certificates(&hub), 3);
    later(&host, &["enrol"]).run().expect(0);
}

#[test]
fn a_certificate_is_not_renewed_early() {
    let hub = TestHub::new();
    let host = enrolled(&hub, 59);
    let seen = || agents(&hub)[0]["last_seen_at"].clone();
    let last = seen();
    let service = Service::of(later(&host, &["run"]));
    until("a heartbeat", || seen() != last);
    service.stop().expect(0);
    assert_eq!(certificates(&hub), 1);
}

#[test]
fn a_renewed_certificate_is_checked_before_it_is_stored() {
    let hub = TestHub::new();
    let host = enrolled(&hub, 61);
    let before = file(&host, "client.pem");
    hub.post(
        "mimir/certificates",
        json!({"lifetime_secs": 60, "age_secs": 120}),
    );
    let service = Service::of(later(&host, &["run"]));
    let cause = || {
        let status = later(&host, &["status", "--output", "json"]).run();
        status.json()["last_failure"]["cause"].to_string()
    };
    until("a refusal", || {
        cause().contains("the certificate expired at")
    });
    service.stop().expect(0);
    assert_eq!(file(&host, "client.pem"), before);
}

#[test]
fn an_expired_certificate_needs_a_secret_and_stays_the_same_agent() {
    let hub = TestHub::new();
    let host = TestHost::new();
    let (secret, _) = mint(&hub, Some(1));
    hub.post("mimir/certificates", json!({"lifetime_secs": 5}));
    enrol(&host, &hub, &secret).run().expect(0);
    let status = || later(&host, &["status", "--output", "json"]).run().json();
    until("the end of it", || status()["state"] == "expired");
    later(&host, &["run"])
        .run()
        .expect(78)
        .expect_stderr(&["has expired"]);
    later(&host, &["enrol"]).run().expect(64);
    hub.post("mimir/certificates", json!({"lifetime_secs": DAY}));
    enrol(&host, &hub, &secret).run().expect(0);
    assert_eq!((agents(&hub).len(), uses(&hub).as_str()), (1, "1 / 1"));
}

#[test]
fn the_clock_of_the_server_decides_on_renewal() {
    let hub = TestHub::new();
    let host = enrolled(&hub, 0);
    hub.advance_clock(Duration::from_hours(91 * 24));
    let service = Service::of(later(&host, &["run"]));
    until("the refusal", || later(&host, &["status"]).run().code == 75);
    let report = later(&host, &["status"]).run().stdout;
    assert!(report.contains("expired by the server's clock"), "{report}");
    service.stop().expect(0);
}

#[test]
fn a_service_with_a_secret_enrols_first_and_loads_a_new_certificate() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let (secret, _) = mint(&hub, Some(1));
    let service = on(&host, &hub, &["run"]).env("MIMIR_ENROLLMENT_SECRET", &secret);
    let service = Service::of(service);
    until("an agent", || {
        agents(&hub)
            .first()
            .is_some_and(|it| it["last_seen_at"].is_string())
    });
    until("the certificate", || {
        host.path("etc/mimir/client.pem").exists()
    });
    let status = || later(&host, &["status", "--output", "json"]).run().json();
    until("a heartbeat", || status()["heartbeats"] == "ok");
    let last = agents(&hub)[0]["last_seen_at"].clone();
    let force = on(&host, &hub, &["enrol", "--force"]);
    force
        .env("MIMIR_ENROLLMENT_SECRET", &secret)
        .run()
        .expect(0);
    service.signal(nix::sys::signal::Signal::SIGHUP);
    until("a heartbeat", || agents(&hub)[0]["last_seen_at"] != last);
    service.stop().expect(0);
    assert_eq!((agents(&hub).len(), uses(&hub).as_str()), (1, "1 / 1"));
}

/// As in a container: one user owns everything.
#[test]
#[ignore = "needs root: gives files to other users"]
fn a_single_user_installation_renews_its_certificate() {
    needs_root();
    let hub = TestHub::new();
    let host = TestHost::new();
    let user = 54_321;
    fs::create_dir_all(host.path("etc/mimir")).unwrap();
    chown(host.path("etc/mimir"), Some(user), Some(user)).unwrap();
    let (secret, _) = mint(&hub, Some(1));
    let rules = |days: u64| json!({"lifetime_secs": 90 * DAY, "age_secs": days * DAY});
    hub.post("mimir/certificates", rules(61));
    enrol(&host, &hub, &secret).by_user(user).run().expect(0);
    hub.post("mimir/certificates", rules(0));
    let service = Service::of(later(&host, &["run"]).by_user(user));
    until("a renewal", || certificates(&hub) == 2);
    let health = || {
        let status = later(&host, &["status", "--output", "json"]).by_user(user);
        status.run().json()["heartbeats"].clone()
    };
    until("a heartbeat", || health() == "ok");
    service.stop().expect(0);
    for name in ["client.key", "client.pem", "ca.pem", "agent.json"] {
        let metadata = fs::metadata(host.path("etc/mimir").join(name)).unwrap();
        assert_eq!(metadata.uid(), user, "{name}");
    }
    assert_eq!(host.mode("etc/mimir/client.key"), 0o600);
}

/// As in the unit: the service requests the privileged step, which renews.
#[test]
#[ignore = "needs root: gives files to other users"]
fn the_privileged_step_renews_for_a_read_only_service() {
    let hub = TestHub::new();
    let host = TestHost::with_service_user();
    let (secret, _) = mint(&hub, Some(1));
    let rules = |days: u64| json!({"lifetime_secs": 90 * DAY, "age_secs": days * DAY});
    hub.post("mimir/certificates", rules(61));
    enrol(&host, &hub, &secret).run().expect(0);
    for (name, mode) in [("client.key", 0o640), ("client.pem", 0o644)] {
        assert_eq!(host.mode(&format!("etc/mimir/{name}")), mode, "{name}");
    }
    let run = || later(&host, &["run"]).by_user(SERVICE_USER);
    run().run().expect(85);
    hub.post("mimir/certificates", rules(0));
    // The certificate is still valid while the server cannot renew it, and the service continues.
    hub.fault(json!({"route": "mimir-renew", "status": 503, "times": 1}));
    let prepare = || {
        later(&host, &["prepare", "--output", "json"])
            .run()
            .expect(0)
            .json()
    };
    let report = prepare();
    assert_eq!(report["result"], "deferred", "{report}");
    let service = Service::of(run());
    let health =
        || later(&host, &["status", "--output", "json"]).run().json()["heartbeats"].clone();
    until("a heartbeat", || health() == "ok");
    service.stop().expect(0);
    assert_eq!(certificates(&hub), 1);
    // An unwritable disk does not stop the service either.
    let lock = host.path("etc/mimir/.monsys-enrol.lock");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    let report = prepare();
    assert_eq!(report["result"], "deferred", "{report}");
    fs::remove_dir(&lock).unwrap();
    assert_eq!(prepare()["result"], "ready");
    assert_eq!(certificates(&hub), 2);
    let service = Service::of(run());
    until("a heartbeat", || health() == "ok");
    service.stop().expect(0);
    assert_eq!((agents(&hub).len(), uses(&hub).as_str()), (1, "1 / 1"));
}
