//! Mimir's troubleshooting list: a test for each entry about the agent, by its name.

use std::net::TcpListener;

use serde_json::json;

use crate::common::one_answer::answer;
use crate::common::{Run, TestHost, TestHub, until};
use crate::mimir::{agents, enrol, file, later, mint, uses};

/// Causes of `unauthorized`, in the order of frequency.
const THREE_CAUSES: [&str; 5] = [
    "401 `unauthorized`",
    "In order of frequency: the secret was revoked; its cap is exhausted; it was copied incorrectly",
    "Revoked secrets",
    "N / N",
    "copy it again",
];

#[test]
fn an_agent_reports_unauthorized_the_secret_was_revoked() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let (secret, id) = mint(&hub, None);
    hub.post(&format!("mimir/enrollment-secrets/{id}/revoke"), json!({}));
    enrol(&host, &hub, &secret)
        .run()
        .expect(77)
        .expect_stderr(&THREE_CAUSES);
    assert!(agents(&hub).is_empty());
}

#[test]
fn an_agent_reports_unauthorized_the_cap_is_exhausted() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let (secret, _) = mint(&hub, Some(1));
    enrol(&TestHost::new(), &hub, &secret).run().expect(0);
    let run = enrol(&host, &hub, &secret).run().expect(77);
    run.expect_stderr(&THREE_CAUSES);
    assert_eq!(uses(&hub), "1 / 1");
}

#[test]
fn an_agent_reports_unauthorized_the_secret_was_copied_incorrectly() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let (secret, _) = mint(&hub, Some(1));
    let run = enrol(&host, &hub, &secret[1..]).run().expect(77);
    let run = run.expect_stderr(&THREE_CAUSES);
    assert!(!run.stderr.contains(&secret[1..]));
    // A trailing newline or white space is trimmed.
    enrol(&host, &hub, &format!("{secret} \r\n"))
        .run()
        .expect(0);
}

#[test]
fn secret_exhausted_is_reported_for_the_request_that_lost_the_race() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let (secret, _) = mint(&hub, Some(1));
    hub.fault(json!({"route": "mimir-claim", "delay_ms": 4_000}));
    let loser = enrol(&host, &hub, &secret).start();
    until("the race", || hub.get("faults")["faults"] == json!([]));
    enrol(&TestHost::new(), &hub, &secret).run().expect(0);
    let run = Run::of(loser).expect(77);
    let run = run.expect_stderr(&[
        "403 `secret_exhausted`",
        "another agent took the last use",
        "Max uses",
    ]);
    assert!(!run.stderr.contains("unauthorized"), "{}", run.stderr);
    assert_eq!((agents(&hub).len(), uses(&hub).as_str()), (1, "1 / 1"));
}

#[test]
fn already_enrolled_agents_keep_working_after_a_revoke() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let (secret, id) = mint(&hub, None);
    enrol(&host, &hub, &secret).run().expect(0);
    hub.post(&format!("mimir/enrollment-secrets/{id}/revoke"), json!({}));
    let seen = || agents(&hub)[0]["last_seen_at"].clone();
    let before = seen();
    let service = crate::common::Service::of(later(&host, &["run"]));
    until("a heartbeat", || seen() != before);
    service.stop().expect(0);
}

#[test]
fn an_agent_enrolled_but_does_not_appear_its_heartbeats_are_rejected() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let (secret, _) = mint(&hub, None);
    enrol(&host, &hub, &secret).run().expect(0);
    let id = agents(&hub)[0]["agent_id"].as_str().unwrap().to_owned();
    hub.call(reqwest::Method::DELETE, &format!("mimir/agents/{id}"), None);
    let service = crate::common::Service::of(later(&host, &["run"]));
    let status = || later(&host, &["status", "--output", "json"]).run();
    until("the refusal", || status().code == 75);
    let report = later(&host, &["status"]).run().expect(75).stdout;
    assert!(report.contains("FAILING"), "{report}");
    assert!(
        report.contains("401 to this host's client certificate"),
        "{report}"
    );
    assert!(
        report.contains("server's log for client-cert errors"),
        "{report}"
    );
    service.stop().expect(0);
    later(&host, &["enrol"]).run().expect(77);
    // With a secret it enrols again, as a new agent, since the server does not know the old one.
    let force = crate::mimir::on(&host, &hub, &["enrol", "--force"]);
    force
        .env("MIMIR_ENROLLMENT_SECRET", &secret)
        .run()
        .expect(0);
    assert_ne!(agents(&hub)[0]["agent_id"], *id);
}

/// The server rejects an unknown CA with a TLS alert.
#[test]
fn a_certificate_of_another_ca_is_reported() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let (secret, _) = mint(&hub, None);
    enrol(&host, &hub, &secret).run().expect(0);
    let other = TestHub::new();
    let ca_file = host.install_ca(&other).unwrap();
    let notes = file(&host, "agent.json").replace(&hub.url(), &other.url());
    let unproved: Vec<&str> = notes
        .lines()
        .filter(|it| !it.contains("enrolled_at"))
        .collect();
    host.write_file("etc/mimir/agent.json", &unproved.join("\n"));
    let run = later(&host, &["enrol", "--ca-file", ca_file.to_str().unwrap()]);
    run.run().expect(77).expect_stderr(&[
        "does not accept this host's certificate",
        "client-cert errors",
    ]);
}

#[test]
fn all_tries_send_one_certificate_request_also_in_later_runs() {
    let host = TestHost::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server =
        std::thread::spawn(move || [(); 3].map(|()| answer(&listener, "503 x").body["csr"].take()));
    for name in ["web-1", "web-1", "web-2"] {
        host.write_file("host-hostname", name);
        host.agent(&["enrol"])
            .env("MIMIR_ENROLLMENT_SECRET", "secret")
            .env("MIMIR_SERVER_URL", &url)
            .env("MONSYS_WAIT", "0")
            .run()
            .expect(69);
        assert_eq!(host.mode("etc/mimir/client.csr"), 0o600);
    }
    let [first, second, other_name] = server.join().unwrap();
    assert_eq!(first, second);
    assert_ne!(first, other_name);
}
