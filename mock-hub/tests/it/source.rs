//! The source address of a host: the peer, or the one that a trusted proxy reports.

use crate::clients::{Caller, Host, answer, hub_with};
use mock_hub::Options;
use serde_json::json;

/// Returns the status of an enrolment behind a proxy, with a token for these ranges.
async fn enrol(operator: &Caller, cidrs: &[&str], forwarded: Option<&str>) -> u16 {
    let created = operator
        .create_token(1, json!({"allowed_cidrs": cidrs}))
        .await;
    let mut request = Host::new().registration(operator, "enrol", &created.token);
    if let Some(forwarded) = forwarded {
        request = request.header("X-Forwarded-For", forwarded);
    }
    answer(request).await.0
}

#[tokio::test]
async fn the_peers_address_counts() {
    let hub = hub_with(Options::default()).await;
    let operator = Caller::of(&hub);
    assert_eq!(enrol(&operator, &[], None).await, 201);
    assert_eq!(
        enrol(&operator, &["10.0.0.0/8", "127.0.0.0/8"], None).await,
        201
    );
    assert_eq!(enrol(&operator, &["::ffff:127.0.0.0/104"], None).await, 201);
    assert_eq!(enrol(&operator, &["10.0.0.0/8", "::/0"], None).await, 401);
    assert_eq!(
        enrol(&operator, &["10.0.0.0/8"], Some("10.0.0.1")).await,
        401,
        "the peer is not trusted"
    );
    hub.stop().await;
}

#[tokio::test]
async fn an_ipv6_peers_address_counts() {
    let listen = "[::1]:0".parse().expect("an address");
    let hub = hub_with(Options {
        listen,
        ..Options::default()
    })
    .await;
    let operator = Caller::of(&hub);
    assert_eq!(enrol(&operator, &["::1"], None).await, 201);
    assert_eq!(
        enrol(&operator, &["2001:db8::/32", "127.0.0.0/8"], None).await,
        401
    );
    hub.stop().await;
}

#[tokio::test]
async fn a_trusted_proxy_counts() {
    let trusted_proxies = vec![
        "127.0.0.0/8".parse().expect("a CIDR"),
        "10.9.0.0/16".parse().expect("a CIDR"),
    ];
    let hub = hub_with(Options {
        trusted_proxies,
        ..Options::default()
    })
    .await;
    let operator = Caller::of(&hub);
    assert_eq!(
        enrol(&operator, &["10.0.0.0/16"], Some("10.0.0.1")).await,
        201
    );
    assert_eq!(
        enrol(
            &operator,
            &["10.0.0.0/16"],
            Some("1.1.1.1, 10.0.0.1, 10.9.0.4")
        )
        .await,
        201
    );
    assert_eq!(
        enrol(&operator, &["1.1.1.1"], Some("1.1.1.1, 10.0.0.1")).await,
        401,
        "a host wrote that"
    );
    assert_eq!(
        enrol(&operator, &["2001:db8::/32"], Some("2001:db8::7")).await,
        201
    );
    assert_eq!(
        enrol(&operator, &["127.0.0.1"], None).await,
        201,
        "the proxy itself"
    );
    assert_eq!(
        enrol(&operator, &["127.0.0.1"], Some("garbage \u{e9}, ,")).await,
        201
    );
    hub.stop().await;
}
