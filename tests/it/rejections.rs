//! HTTP 401 with its five causes, and 403.

use std::time::Duration;

use serde_json::json;

use crate::common::{Mint, TestHost, TestHub};

#[test]
fn each_rejection_lists_all_five_causes_and_is_not_retried() {
    let hub = TestHub::new();
    let (used_up, _) = hub.mint(&Mint::new().with("max_uses", json!(1)));
    TestHost::new().enrol(&hub, &used_up).run().expect(0);
    let (revoked, revoked_id) = hub.mint(&Mint::new());
    hub.post(&format!("enrolment-tokens/{revoked_id}/revoke"), json!({}));
    let (elsewhere, _) = hub.mint(&Mint::new().with("allowed_cidrs", json!(["192.0.2.0/24"])));
    let (expired, _) = hub.mint(&Mint::new().with("ttl_secs", json!(3600)));
    hub.advance_clock(Duration::from_secs(3601));
    for token in [&used_up, &revoked, &elsewhere, &expired, "enrl_unknown"] {
        let host = TestHost::new();
        // The hub would accept a second try, so an agent would show that there was one.
        let run = host.enrol(&hub, token).run().expect(77).expect_stderr(&[
            "unknown",
            "expired",
            "revoked",
            "used up",
            "source address",
            "Settings, Enrolment tokens",
        ]);
        assert!(!run.stderr.contains("next try"), "{}", run.stderr);
        assert!(!host.path("etc/monsys/agent.toml").exists());
    }
    assert_eq!((hub.agents().len(), hub.spent()), (1, 1));
}

#[test]
fn a_token_used_up_during_the_request_is_reported() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    hub.fault(json!({"route": "enrol", "status": 403, "body": "{\"error\":\"secret_exhausted\"}"}));
    host.enrol(&hub, &hub.token())
        .run()
        .expect(77)
        .expect_stderr(&["secret_exhausted", "used up at this moment"]);
}

#[test]
fn a_response_never_removes_an_identity() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol(&hub, &hub.token()).run().expect(0);
    let key = || std::fs::read(host.path("var/lib/monsys/agent-signing.key")).unwrap();
    let before = (host.agent_toml(), key());
    let answers = [
        (401, "unauthorized", 77),
        (403, "forbidden", 77),
        (404, "unknown_agent", 77),
        (410, "gone", 65),
    ];
    for (status, error, code) in answers {
        let body = json!({"error": error}).to_string();
        hub.fault(json!({"route": "register", "status": status, "body": body}));
        let code_of_enrol = if status == 404 { 65 } else { code };
        hub.fault(json!({"route": "enrol", "status": status}));
        host.agent(&["enrol", "--tag", "other"]).run().expect(code);
        host.enrol_with(&hub, "enrl_wrong", &["--force"])
            .run()
            .expect(code_of_enrol);
        assert_eq!((host.agent_toml(), key()), before);
        host.agent(&["status"]).run().expect(0);
        let run = host.agent(&["enrol", "--output", "json"]).run().expect(0);
        assert_eq!(run.json()["changed"], false);
    }
    let body = json!({"error": "unauthorized"}).to_string();
    hub.fault(json!({"route": "register", "status": 401, "body": body}));
    host.agent(&["enrol", "--tag", "other"])
        .run()
        .expect(77)
        .expect_stderr(&["does not know this host any more", "own credential"]);
}

/// An ingress or a proxy that answers in place of the hub makes no host give up its identity.
#[test]
fn a_401_that_is_not_the_hubs_is_waited_for() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol(&hub, &hub.token()).run().expect(0);
    for (status, body) in [
        (401, "<html>401 Authorization Required</html>"),
        (401, r#"{"message":"no Route matched"}"#),
        (404, "404 page not found"),
        (404, r#"{"error":"not_found"}"#),
    ] {
        hub.fault(json!({"route": "register", "times": 2, "status": status, "body": body}));
        let run = host.agent(&["enrol", "--output", "json"]).run().expect(0);
        assert_eq!(run.json()["confirmed"], true, "{status} {body}");
        hub.fault(json!({"route": "register", "status": status, "body": body}));
        host.agent(&["enrol", "--tag", "other", "--wait", "0"])
            .run()
            .expect(69)
            .expect_stderr(&["not in the form in which a hub answers"]);
    }
}

/// An operator of the hub finds no cause of a page that a proxy has sent.
#[test]
fn a_refusal_that_is_a_page_sends_to_the_proxy() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    for status in [401, 403, 400] {
        hub.fault(json!({"route": "enrol", "status": status, "body": "<html>No</html>", "content_type": "text/html"}));
        let run = host.enrol(&hub, &hub.token()).run();
        run.expect(if status == 400 { 65 } else { 77 })
            .expect_stderr(&["an HTML page", "read in the log of the proxy"]);
    }
}

#[test]
fn a_hub_that_lost_its_data_accepts_the_host_again_with_its_key() {
    let (lost, host) = (TestHub::new(), TestHost::new());
    host.enrol(&lost, &lost.token()).run().expect(0);
    let key = std::fs::read(host.path("var/lib/monsys/agent-signing.key")).unwrap();
    let fresh = TestHub::new();
    host.enrol_with(&fresh, &fresh.token(), &["--force"])
        .run()
        .expect(0);
    assert_eq!(
        std::fs::read(host.path("var/lib/monsys/agent-signing.key")).unwrap(),
        key
    );
    fresh.expect_one_slot();
}
