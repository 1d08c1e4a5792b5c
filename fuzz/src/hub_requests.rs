//! What the mock hub reads of a request: the body of an enrolment, the signature, the `Host` header.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hub::{Origin, fuzzing};
use ring::digest::{SHA256, digest};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use std::net::SocketAddr;

use crate::parts;

/// An enrolment that is accepted is within the limits, and says the same when it is sent again as
/// the hub has stored it.
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
    // A header's value is trimmed by whoever reads the request, not by the hub.
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

/// The `Host` header chooses among the hub's own URLs, and adds none. The parts are a URL, which the
/// operator may have given, and the headers, one a line.
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
    // A client that names one of them gets it.
    for origin in &public {
        let shown = origin.to_string();
        let host = shown.split_once("://").expect("a scheme").1.as_bytes();
        let meant = fuzzing::install_url(address, std::slice::from_ref(origin), &[host]);
        assert_eq!(meant, shown);
    }
}
