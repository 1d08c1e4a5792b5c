//! The hub's CA and certificate.

use crate::clients::{Caller, client, hub, hub_with};
use mock_hub::Options;
use reqwest::Method;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

#[tokio::test]
async fn the_certificate_is_valid_for_every_local_name() {
    let hub = hub().await;
    let port = hub.url().rsplit_once(':').expect("a port").1;
    let trusting = client(hub.ca_file());
    for name in ["localhost", "127.0.0.1"] {
        let response = trusting
            .get(format!("https://{name}:{port}/healthz"))
            .send()
            .await;
        assert_eq!(response.expect("an answer").status(), 200, "{name}");
    }
    let other = crate::clients::hub().await;
    let suspicious = client(other.ca_file());
    assert!(
        suspicious
            .get(format!("{}/healthz", hub.url()))
            .send()
            .await
            .is_err()
    );
    hub.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_directory_preserves_the_identity() {
    let dir = tempfile::tempdir().expect("a directory");
    let tls_dir = dir.path().join("tls");
    let options = || Options {
        tls_dir: Some(tls_dir.clone()),
        ..Options::default()
    };
    let first = hub_with(options()).await;
    let pin = first.ca_pin().expect("a pin").to_owned();
    assert!(pin.starts_with("sha256:") && pin.len() == 7 + 64, "{pin}");
    first.stop().await;
    for key in ["ca.key", "leaf.key"] {
        let mode = fs::metadata(tls_dir.join(key))
            .expect("a key")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    let files = || ["ca.pem", "leaf.pem"].map(|name| fs::read(tls_dir.join(name)).expect("a file"));
    let before = files();

    let second = hub_with(options()).await;
    assert_eq!(second.ca_pin(), Some(pin.as_str()));
    assert_eq!(files(), before);
    let health = Caller::of(&second)
        .request(Method::GET, "/healthz")
        .send()
        .await;
    assert_eq!(health.expect("an answer").status(), 200);
    second.stop().await;

    // Another address needs another leaf; the CA stays.
    let listen = "127.0.0.2:0".parse().expect("an address");
    let third = hub_with(Options {
        listen,
        ..options()
    })
    .await;
    assert_eq!(third.ca_pin(), Some(pin.as_str()));
    assert_eq!(files()[0], before[0]);
    let health = Caller::of(&third)
        .request(Method::GET, "/healthz")
        .send()
        .await;
    assert_eq!(health.expect("an answer").status(), 200);
    third.stop().await;
}

#[tokio::test]
async fn a_ca_and_a_key_of_another_are_refused() {
    let (dir, other) = (tempfile::tempdir(), tempfile::tempdir());
    let (dir, other) = (dir.expect("a directory"), other.expect("a directory"));
    let options = |dir: &Path| Options {
        tls_dir: Some(dir.to_owned()),
        ..Options::default()
    };
    hub_with(options(dir.path())).await.stop().await;
    hub_with(options(other.path())).await.stop().await;
    let refused = async || match mock_hub::start(options(dir.path())).await {
        Ok(_) => panic!("the hub starts with a CA that it cannot sign for"),
        Err(cause) => cause.to_string(),
    };
    let key = dir.path().join("ca.key");
    fs::copy(other.path().join("ca.key"), &key).expect("a copy");
    assert!(refused().await.contains("do not belong together"));
    fs::remove_file(&key).expect("the key is removed");
    assert!(refused().await.contains("without its ca.key"));
    assert!(!key.exists(), "a refusal makes nothing");
}

#[tokio::test]
async fn a_temporary_ca_is_removed_with_its_hub() {
    let hub = hub().await;
    let ca_file = hub.ca_file().expect("a CA").to_owned();
    assert!(ca_file.exists());
    hub.stop().await;
    assert!(!ca_file.exists());
}
