//! The return of agents to a hub that has lost its database.

use super::site::{DOOR, Enrolled, ORIGIN, Site, caller, enrol, opened, readmit, refused, request};
use crate::clients::{hub_with, text};
use mock_hub::Options;
use serde_json::json;

#[tokio::test]
async fn a_lost_hub_takes_its_agent_back() {
    let site = Site::new();
    let (hub, operator) = site.start().await;
    let Enrolled {
        host,
        agent,
        receipt,
    } = enrol(&operator).await;
    let (_, registered) = host.register(&operator, &agent.token).await;
    assert_ne!(text(&registered, "receipt"), receipt, "register renews it");
    hub.stop().await;

    site.lose_database();
    let (hub, operator) = site.start().await;
    refused(&hub, "shut", &request(&host, &receipt, ORIGIN, 0)).await;
    opened(&operator, json!({})).await;
    let host = host.with("tags", json!(["own"]));
    let (status, body) = readmit(&operator, &host, &receipt).await;
    assert_eq!((status, text(&body, "agent_id")), (201, agent.id.clone()));
    assert_eq!(body["tags"], json!(["prod", "own"]));
    assert_eq!(
        (text(&body, "role"), text(&body, "default_role")),
        ("web".into(), "web".into())
    );
    let (_, door) = operator.get(DOOR).await;
    assert_eq!(
        (&door["readmitted"], text(&door, "revocations").as_str()),
        (&json!(1), "complete")
    );
    let (_, row) = operator.get(&format!("/api/v1/agents/{}", agent.id)).await;
    assert!(
        row["readmitted_at"].is_string() && row["enrolment_token_id"].is_string(),
        "{row}"
    );
    let token = text(&body, "agent_token");
    assert_eq!(host.register(&operator, &agent.token).await.0, 401);
    assert_eq!(host.register(&operator, &token).await.0, 200);

    // Known by now, with the receipt of either time.
    for receipt in [&receipt, &text(&body, "receipt")] {
        let (status, body) = readmit(&operator, &host, receipt).await;
        assert_eq!((status, text(&body, "agent_id")), (200, agent.id.clone()));
    }
    assert_eq!(
        host.register(&operator, &token).await.0,
        401,
        "the old one dies"
    );
    assert_eq!(operator.get(DOOR).await.1["readmitted"], 1);
    assert_eq!(operator.agent_count().await, 1);

    // The door is still open after a restart, and shut once it is closed.
    hub.stop().await;
    let (hub, operator) = site.start().await;
    assert_eq!(readmit(&operator, &host, &receipt).await.0, 200);
    assert_eq!(operator.delete(DOOR).await.0, 204);
    assert_eq!(operator.get(DOOR).await.1["state"], "shut");
    refused(&hub, "closed", &request(&host, &receipt, ORIGIN, 0)).await;
    hub.stop().await;
}

#[tokio::test]
async fn a_rotated_receipt_key_verifies_what_the_old_one_signed() {
    let (site, Enrolled { host, receipt, .. }) = Site::enrolled().await;
    site.lose_database();
    let rotated = Options {
        receipt_keys: vec![site.path("next.key"), site.path("receipt.key")],
        ..site.options()
    };
    let hub = hub_with(rotated.clone()).await;
    let operator = caller(&hub);
    opened(&operator, json!({})).await;
    let (status, body) = readmit(&operator, &host, &receipt).await;
    assert_eq!(status, 201);
    let kid = |receipt: &str| receipt.split('.').nth(1).expect("a key id").to_owned();
    assert_ne!(kid(&text(&body, "receipt")), kid(&receipt));
    hub.stop().await;
    let only_new = Options {
        receipt_keys: vec![site.path("next.key")],
        ..rotated
    };
    let Err(cause) = mock_hub::start(only_new).await else {
        panic!("it starts");
    };
    assert!(
        cause.to_string().contains("line 1: no receipt key"),
        "{cause}"
    );
}
