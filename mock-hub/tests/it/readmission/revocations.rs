//! Deletions and revocations that outlive the database.

use super::site::{
    DOOR, Enrolled, ORIGIN, Site, caller, enrol, open, opened, readmit, refused, request,
};
use crate::clients::{Host, hub_with, text};
use mock_hub::Options;
use serde_json::{Value, json};
use std::fs;

#[tokio::test]
async fn a_deleted_agent_stays_deleted_until_it_is_allowed() {
    let (site, enrolled) = Site::enrolled().await;
    let Enrolled {
        host,
        agent,
        receipt,
    } = enrolled;
    let path = format!("/api/v1/agents/{}", agent.id);
    let (hub, operator) = site.start().await;
    assert_eq!(
        operator.post(&format!("{path}/allow"), &json!({})).await.0,
        204
    );
    assert_eq!(operator.delete(&path).await.0, 204);
    assert_eq!(operator.delete(&path).await.0, 404);
    hub.stop().await;

    for lose in [
        Site::lose_database as fn(&Site),
        Site::restore_database,
        |_| {},
    ] {
        lose(&site);
        let (hub, operator) = site.start_open().await;
        assert_eq!(operator.agent_count().await, 0);
        refused(&hub, "deleted", &request(&host, &receipt, ORIGIN, 0)).await;
        let created = operator.create_token(1, json!({})).await;
        assert_eq!(host.enrol(&operator, &created.token).await.0, 401);
        assert_eq!(operator.uses(&created).await, (0, 0));
        let click = crate::clients::click(&operator, &json!({})).await;
        assert_eq!(host.register(&operator, &click.token).await.0, 401);
        operator
            .delete(&format!("/api/v1/agents/{}", click.id))
            .await;
        hub.stop().await;
    }
    let (hub, operator) = site.start().await;
    assert_eq!(
        operator.post(&format!("{path}/allow"), &json!({})).await.0,
        204
    );
    hub.stop().await;
    site.lose_database();
    let (hub, operator) = site.start_open().await;
    let (status, body) = readmit(&operator, &host, &receipt).await;
    assert_eq!((status, text(&body, "agent_id")), (201, agent.id));
    hub.stop().await;
}

#[tokio::test]
async fn what_unenrolled_does_not_come_back_and_its_key_is_free() {
    let (site, enrolled) = Site::enrolled().await;
    let Enrolled {
        host,
        agent,
        receipt,
    } = enrolled;
    let (hub, operator) = site.start().await;
    assert_eq!(host.unenrol(&operator, &agent).await.0, 204);
    hub.stop().await;
    for lose in [Site::lose_database as fn(&Site), Site::restore_database] {
        lose(&site);
        let (hub, operator) = site.start_open().await;
        assert_eq!(operator.agent_count().await, 0);
        refused(&hub, "unenrolled", &request(&host, &receipt, ORIGIN, 0)).await;
        let created = operator.create_token(1, json!({})).await;
        assert_eq!(host.enrol(&operator, &created.token).await.0, 201);
        hub.stop().await;
    }
}

#[tokio::test]
async fn a_replaced_key_stays_replaced() {
    let (site, enrolled) = Site::enrolled().await;
    let Enrolled {
        host,
        agent,
        receipt,
    } = enrolled;
    let (hub, operator) = site.start().await;
    let rotate = format!("/api/v1/agents/{}/rotate-signing-key", agent.id);
    // The clock is set back meanwhile: the new receipt counts as newer nevertheless.
    hub.set_clock_by(-60_000);
    assert_eq!(operator.post(&rotate, &json!({})).await.0, 204);
    hub.set_clock_by(-60_000);
    let next = Host::new();
    let (status, body) = next.register(&operator, &agent.token).await;
    assert_eq!(status, 200, "{body}");
    let new_receipt = text(&body, "receipt");
    opened(&operator, json!({})).await;
    hub.set_clock_by(120_000);
    refused(&hub, "old key", &request(&host, &receipt, ORIGIN, 0)).await;
    hub.stop().await;

    // A restart takes nothing away from the new key.
    let (hub, operator) = site.start().await;
    assert_eq!(next.register(&operator, &agent.token).await.0, 200);
    assert_eq!(host.register(&operator, &agent.token).await.0, 403);
    hub.stop().await;

    site.lose_database();
    let (hub, operator) = site.start_open().await;
    refused(&hub, "old key", &request(&host, &receipt, ORIGIN, 0)).await;
    assert_eq!(readmit(&operator, &next, &new_receipt).await.0, 201);
    hub.stop().await;

    site.restore_database();
    let (hub, operator) = site.start().await;
    let path = format!("/api/v1/agents/{}", agent.id);
    assert_eq!(operator.get(&path).await.1["signing_pubkey"], Value::Null);
    opened(&operator, json!({})).await;
    refused(&hub, "old key", &request(&host, &receipt, ORIGIN, 0)).await;
    assert_eq!(next.register(&operator, &agent.token).await.0, 200);
    assert_eq!(host.register(&operator, &agent.token).await.0, 403);
    hub.stop().await;
}

#[tokio::test]
async fn a_revoked_token_stays_revoked_and_its_agents_come_back() {
    let site = Site::new();
    let (hub, operator) = site.start().await;
    let created = operator.create_token(2, json!({})).await;
    let host = Host::new();
    let (_, body) = host.enrol(&operator, &created.token).await;
    hub.stop().await;
    site.save_database();
    let (hub, operator) = site.start().await;
    let revoke = format!("{}/revoke", created.path);
    assert_eq!(operator.post(&revoke, &json!({})).await.0, 200);
    hub.stop().await;
    site.restore_database();
    let (hub, operator) = site.start().await;
    assert_eq!(operator.get(&created.path).await.1["status"], "revoked");
    assert_eq!(Host::new().enrol(&operator, &created.token).await.0, 401);
    opened(&operator, json!({})).await;
    assert_eq!(
        readmit(&operator, &host, &text(&body, "receipt")).await.0,
        200
    );
    hub.stop().await;
}

#[tokio::test]
async fn lost_revocations_are_to_be_accepted() {
    let site = Site::new();
    let (hub, operator) = site.start().await;
    let Enrolled { host, receipt, .. } = enrol(&operator).await;
    opened(&operator, json!({})).await;
    hub.stop().await;
    fs::remove_file(site.path("revocations")).expect("the file");
    for _ in 0..2 {
        let (hub, operator) = site.start().await;
        let (_, door) = operator.get(DOOR).await;
        assert_eq!(
            (&door["state"], &door["revocations"]),
            (&json!("shut"), &json!("lost"))
        );
        refused(&hub, "lost", &request(&host, &receipt, ORIGIN, 0)).await;
        let (status, refusal) = open(&operator, json!({})).await;
        assert_eq!(
            (status, text(&refusal, "error").as_str()),
            (409, "revocations_lost")
        );
        hub.stop().await;
    }
    let (hub, operator) = site.start().await;
    opened(&operator, json!({"accept_lost_revocations": true})).await;
    assert_eq!(readmit(&operator, &host, &receipt).await.0, 200);
    hub.stop().await;
    let (hub, operator) = site.start().await;
    assert_eq!(operator.get(DOOR).await.1["revocations"], "accepted");
    opened(&operator, json!({})).await;
    hub.stop().await;

    // Without a file they are always lost, and without a key nothing opens.
    let options = Options {
        revocations: None,
        ..site.options()
    };
    let hub = hub_with(options.clone()).await;
    assert_eq!(open(&caller(&hub), json!({})).await.0, 409);
    opened(&caller(&hub), json!({"accept_lost_revocations": true})).await;
    hub.stop().await;
    let hub = hub_with(Options {
        receipt_keys: Vec::new(),
        ..options
    })
    .await;
    let operator = caller(&hub);
    let (status, refusal) = open(&operator, json!({"accept_lost_revocations": true})).await;
    assert_eq!(
        (status, text(&refusal, "error").as_str()),
        (409, "no_receipt_key")
    );
    refused(&hub, "no key", &request(&host, &receipt, ORIGIN, 0)).await;
    hub.stop().await;
}

#[tokio::test]
async fn revocations_of_the_database_are_added_to_a_new_file() {
    let site = Site::new();
    let options = Options {
        revocations: None,
        ..site.options()
    };
    let hub = hub_with(options).await;
    let operator = caller(&hub);
    let Enrolled {
        host,
        agent,
        receipt,
    } = enrol(&operator).await;
    operator
        .delete(&format!("/api/v1/agents/{}", agent.id))
        .await;
    hub.stop().await;
    let (hub, _) = site.start().await;
    hub.stop().await;
    site.lose_database();
    let (hub, operator) = site.start().await;
    opened(&operator, json!({"accept_lost_revocations": true})).await;
    refused(&hub, "deleted", &request(&host, &receipt, ORIGIN, 0)).await;
    hub.stop().await;
}

/// A crash after the file was written, and before the database has committed.
#[tokio::test]
async fn a_crash_between_file_and_database_is_made_good_at_the_start() {
    let (site, enrolled) = Site::enrolled().await;
    let Enrolled {
        host,
        agent,
        receipt,
    } = enrolled;
    let before = fs::read(site.path("revocations")).expect("the file");
    let (hub, operator) = site.start().await;
    operator
        .delete(&format!("/api/v1/agents/{}", agent.id))
        .await;
    hub.stop().await;
    let after = fs::read(site.path("revocations")).expect("the file");

    // Before the line is complete, nothing has happened.
    for length in [before.len(), before.len() + 1, after.len() - 1] {
        site.restore_database();
        fs::write(site.path("revocations"), &after[..length]).expect("the file");
        let (hub, operator) = site.start().await;
        assert_eq!(operator.agent_count().await, 1);
        hub.stop().await;
    }
    // Afterwards, all has.
    site.restore_database();
    fs::write(site.path("revocations"), &after).expect("the file");
    let (hub, operator) = site.start().await;
    assert_eq!(operator.agent_count().await, 0);
    opened(&operator, json!({})).await;
    refused(&hub, "deleted", &request(&host, &receipt, ORIGIN, 0)).await;
    hub.stop().await;
}
