//! Requests to the mock hub: the body of an enrolment, the signature, the receipt, the `Host` header.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hub::{Origin, fuzzing};
use ring::digest::{SHA256, digest};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use std::net::SocketAddr;

use crate::parts;

/// An accepted enrolment is within the limits, and has the same values if it is sent again as the hub
/// stored it.
pub fn enrolment(bytes: &[u8]) {
    let accepted = match fuzzing::enrolment(bytes) {
        Ok(accepted) => accepted,
        Err(message) => {
            assert!(!message.is_empty());
            return;
        }
    };
    assert!(fuzzing::is_key(&accepted.key));
    assert!(accepted.tags.len() <= 64);
    for tag in &accepted.tags {
        assert!((1..=128).contains(&tag.chars().count()), "{tag:?}");
        assert!(
            !tag.contains(|c: char| c == ',' || c.is_control()),
            "{tag:?}"
        );
    }
    let Value::Object(mut again) = accepted.facts.clone() else {
        panic!("facts are an object");
    };
    again.insert("tags".to_owned(), json!(accepted.tags));
    again.insert("role".to_owned(), json!(accepted.role));
    again.insert("signing_pubkey".to_owned(), json!(accepted.key));
    let again = serde_json::to_vec(&again).expect("JSON");
    assert_eq!(fuzzing::enrolment(&again), Ok(accepted));
}

/// A body has one signature by a key, and a key has one spelling. The parts are header, body, key.
pub fn signature(bytes: &[u8]) {
    let [header, body, key] = parts(bytes);
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed has 32 bytes");
    let own = STANDARD.encode(pair.public_key());
    let hash = digest(&SHA256, body.as_bytes());
    let only = STANDARD.encode(pair.sign(hash.as_ref()));
    assert!(fuzzing::is_signed(only.as_bytes(), body.as_bytes(), &own));
    // The HTTP parser trims the value of a header, not the hub.
    let accepted = fuzzing::is_signed(header.as_bytes(), body.as_bytes(), &own);
    assert_eq!(accepted, header == only, "{header:?}");

    let key = key.trim_end();
    if fuzzing::is_key(key) {
        let bytes = STANDARD.decode(key).expect("a key is base64");
        assert_eq!(bytes.len(), 32);
        assert_eq!(STANDARD.encode(&bytes), key, "a second spelling");
    } else {
        assert!(!fuzzing::is_signed(header.as_bytes(), body.as_bytes(), key));
    }
}

/// The `Host` header chooses one of the hub's own URLs, and adds none. The parts are a URL from the
/// operator, and the headers, one a line.
pub fn host_header(bytes: &[u8]) {
    let [url, hosts] = parts(bytes);
    let hosts: Vec<&[u8]> = hosts.split('\n').map(str::as_bytes).collect();
    let address = SocketAddr::from(([127, 0, 0, 1], 8080));
    let own = "http://127.0.0.1:8080".to_owned();
    let mut public: Vec<Origin> = vec!["https://hub.example.com".parse().expect("an origin")];
    if let Ok(origin) = url.parse::<Origin>() {
        let shown = origin.to_string();
        assert_eq!(shown.parse(), Ok(origin.clone()), "{shown}");
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:[]/".contains(&byte);
        assert!(shown.bytes().all(is_plain), "{shown}");
        public.push(origin);
    }
    let named = fuzzing::install_url(address, &public, &hosts);
    let known = public.iter().map(ToString::to_string).chain([own.clone()]);
    assert!(known.into_iter().any(|known| known == named), "{named}");
    assert_eq!(
        fuzzing::install_url(address, &public, &[]),
        public[0].to_string()
    );
    assert_eq!(fuzzing::install_url(address, &[], &hosts), own);
    // A client that names one of these URLs gets it.
    for origin in &public {
        let shown = origin.to_string();
        let host = shown.split_once("://").expect("a scheme").1.as_bytes();
        let meant = fuzzing::install_url(address, std::slice::from_ref(origin), &[host]);
        assert_eq!(meant, shown);
    }
}

/// A receipt is parsed only if the hub has signed all of it. The first part is a receipt, the second a
/// payload that the hub signs, whatever it is.
pub fn receipt(bytes: &[u8]) {
    let [text, payload] = parts(bytes);
    let seed = [7; 32];
    assert_eq!(
        fuzzing::receipt(&text, [8; 32]),
        None,
        "no receipt of this key"
    );
    let signed = fuzzing::signed_receipt(payload.as_bytes(), seed).expect("a seed has 32 bytes");
    if let Some(id) = fuzzing::receipt(&signed, seed) {
        let value: Value = serde_json::from_str(&payload).expect("a payload is JSON");
        let given = value["agent_id"].as_str().and_then(|id| id.parse().ok());
        assert_eq!(given, id.parse::<uuid::Uuid>().ok());
    }
    if fuzzing::receipt(&text, seed).is_some() {
        let payload = text.split('.').nth(2).expect("a payload");
        let payload = URL_SAFE_NO_PAD.decode(payload).expect("base64url");
        assert_eq!(fuzzing::signed_receipt(&payload, seed), Some(text));
    }
    assert_eq!(fuzzing::receipt(&format!("{signed}A"), seed), None);
}
