//! Responses of a hub, or of an impostor of the hub.

use std::collections::BTreeMap;

use agent_core::hub::client::Reply;
use agent_core::hub::response::{Outcome, classify};
use agent_core::tags;
use dialect_monsys::wire::{Admission, enrolled, registered};
use serde_json::Value;
use serde_json::value::RawValue;

const STATUSES: [u16; 16] = [
    200, 201, 204, 301, 400, 401, 403, 404, 409, 410, 422, 429, 500, 503, 511, 599,
];
const PREFIXES: [&str; 3] = ["enrl_", "agt_", "ms_"];
const MEDIA_TYPES: [Option<&str>; 4] = [
    Some("application/json"),
    Some("text/html"),
    Some("application/problem+json"),
    None,
];

/// The first byte chooses the status, the second the media type and the request; the rest is the body and
/// the target of a redirect. Only an acceptance of the protocol is accepted, and no message contains a
/// token.
pub fn hub_reply(bytes: &[u8]) {
    let [status, kind, body @ ..] = bytes else {
        return;
    };
    let status = STATUSES[usize::from(status.wrapping_sub(b'a')) % STATUSES.len()];
    let kind = usize::from(kind.wrapping_sub(b'a'));
    let is_enrolment = (kind / MEDIA_TYPES.len()).is_multiple_of(2);
    let media_type = MEDIA_TYPES[kind % MEDIA_TYPES.len()];
    let reply = Reply {
        status,
        location: Some(String::from_utf8_lossy(body).into_owned()),
        media_type: media_type.map(str::to_owned),
        body: zeroize::Zeroizing::new(body.to_vec()),
        ..Reply::default()
    };
    let read = if is_enrolment { enrolled } else { registered };
    let message = match classify("https://hub.example", Ok(reply), read) {
        Outcome::Done(admission) => {
            assert!(matches!(status, 200 | 201));
            assert_eq!(media_type, Some("application/json"));
            return is_of_the_protocol(&admission, body, is_enrolment);
        }
        Outcome::Stop(error) | Outcome::Wait { error, .. } => error.to_string(),
    };
    let mut words = vec![String::from_utf8_lossy(body).into_owned()];
    if let Ok(json) = serde_json::from_slice(body) {
        texts(&json, &mut words);
    }
    for token in words.iter().flat_map(|text| tokens(text)) {
        assert!(
            !contains_token(&message, token),
            "{token} is printed: {message}"
        );
    }
}

fn is_of_the_protocol(admission: &Admission, body: &[u8], is_enrolment: bool) {
    let json = object(body).expect("what is accepted is JSON");
    let id = json["agent_id"].as_str().and_then(|id| id.parse().ok());
    assert_eq!(Some(admission.agent_id), id);
    assert_eq!(admission.agent_token.is_some(), is_enrolment);
    if let Some(token) = &admission.agent_token {
        let token = token.expose_secret();
        assert!(token.starts_with("agt_") && token.len() > 4 && token.len() <= 512);
        assert!(token.bytes().all(|byte| byte.is_ascii_graphic()));
        assert_eq!(json["agent_token"].as_str(), Some(token));
        assert!(!format!("{admission:?}").contains(token));
    }
    assert!(admission.default_tags.len() <= tags::MAX_TAGS);
    for tag in &admission.default_tags {
        assert_eq!(tags::tag_fault(tag), None);
    }
    if let Some(role) = &admission.default_role {
        assert_eq!(tags::role_fault(role), None);
    }
    assert!((1..=86_400).contains(&admission.heartbeat_interval_secs));
}

/// Returns a JSON object without the fields that serde_json passes over but cannot read: a string with a lone
/// surrogate or with bytes that are not UTF-8, a number out of range. The agent needs none of them, and refuses no
/// response for one.
pub(crate) fn object(json: &[u8]) -> Option<Value> {
    let text = String::from_utf8_lossy(json);
    let fields: BTreeMap<String, &RawValue> = serde_json::from_str(&text).ok()?;
    let read = |field: &RawValue| {
        let field = field.get();
        let value = serde_json::from_str(field).ok();
        value.or_else(|| object(field.as_bytes()))
    };
    let fields = fields.into_iter();
    let fields = fields.filter_map(|(name, field)| Some((name, read(field)?)));
    Some(Value::Object(fields.collect()))
}

/// Returns every string in a JSON value.
pub(crate) fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| texts(field, found)),
        _ => {}
    }
}

/// Returns what looks like a token in `text`: at the beginning of a word, a prefix followed by eight or more
/// letters, digits, hyphens or underscores.
pub(crate) fn tokens(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
        .filter(|word| {
            PREFIXES.iter().any(|prefix| {
                word.strip_prefix(prefix)
                    .is_some_and(|secret| secret.len() >= 8)
            })
        })
}

/// Returns whether `message` contains the token, except after `ms_`, which is also the end of many words.
pub(crate) fn contains_token(message: &str, token: &str) -> bool {
    message.match_indices(token).any(|(at, _)| {
        let before = message[..at].chars().next_back();
        !token.starts_with("ms_") || !before.is_some_and(|c| c.is_ascii_alphanumeric())
    })
}
