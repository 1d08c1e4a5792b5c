//! Responses of the hubs of other dialects, or of their impostors.

use std::time::{Duration, SystemTime};

use agent_core::escape::is_hidden;
use agent_core::hub::client::Reply;
use monsys_agent::fuzzing::{self, Call};
use serde_json::Value;

use crate::hub_reply::{contains_token, object, texts, tokens};

const CALLS: [Call; 6] = [
    Call::RavenxcopeEnrol,
    Call::RavenxcopeHeartbeat,
    Call::MimirEnrol,
    Call::MimirProof,
    Call::LyftdataEnrol,
    Call::MonsysHeartbeat,
];
const STATUSES: [u16; 14] = [
    200, 201, 204, 301, 400, 401, 403, 404, 409, 410, 429, 500, 503, 511,
];
const JSON: &str = "application/json";
/// Longest error that quotes a response, in characters.
const LONGEST_ERROR: usize = 1000;

/// The first byte chooses the request, the second the status, the third the media type and the hub's clock;
/// the rest is the body. Only a response of the protocol is accepted, with values within their limits. An
/// error is short and printable, and contains no token.
pub fn responses(bytes: &[u8]) {
    let [call, status, kind, body @ ..] = bytes else {
        return;
    };
    let choice = |byte: &u8, of: usize| usize::from(byte.wrapping_sub(b'a')) % of;
    let call = CALLS[choice(call, CALLS.len())];
    let status = STATUSES[choice(status, STATUSES.len())];
    let media_type = [Some(JSON), Some("text/html"), None][choice(kind, 3)];
    let reply = Reply {
        status,
        location: Some(String::from_utf8_lossy(body).into_owned()),
        media_type: media_type.map(str::to_owned),
        body: zeroize::Zeroizing::new(body.to_vec()),
        ..Reply::default()
    };
    match fuzzing::response(call, reply) {
        Ok(fields) => {
            let is_expected = match call {
                Call::MonsysHeartbeat => status == 204,
                Call::RavenxcopeEnrol | Call::RavenxcopeHeartbeat => status == 200,
                _ => matches!(status, 200 | 201) && media_type == Some(JSON),
            };
            assert!(is_expected, "{call:?} accepts {status}, {media_type:?}");
            let json = object(body).unwrap_or_default();
            for (name, value) in &fields {
                is_within_limits(name, value, &json);
            }
        }
        Err(error) => {
            let cause = error.cause();
            assert!(cause.chars().count() <= LONGEST_ERROR, "{cause}");
            assert!(!cause.contains(is_hidden), "{cause:?}");
            let mut words = vec![String::from_utf8_lossy(body).into_owned()];
            if let Ok(json) = serde_json::from_slice(body) {
                texts(&json, &mut words);
            }
            let printed = error.to_string();
            for token in words.iter().flat_map(|text| tokens(text)) {
                assert!(
                    !contains_token(&printed, token),
                    "{token} is printed: {printed}"
                );
            }
        }
    }
    clock(body);
}

fn is_within_limits(name: &str, value: &str, json: &Value) {
    let is_token = || value.len() <= 4096 && value.bytes().all(|byte| byte.is_ascii_graphic());
    match name {
        "sensorToken" => {
            assert!(!value.is_empty() && is_token(), "{value:?}");
            assert_eq!(json["data"][name].as_str().map(str::trim), Some(value));
        }
        "heartbeatIntervalSeconds" => {
            let seconds: u64 = value.parse().expect("a number of seconds");
            assert!((1..=86_400).contains(&seconds), "{seconds}");
        }
        "api_key" => {
            assert!(!value.is_empty() && is_token(), "{value:?}");
            assert_eq!(json[name].as_str(), Some(value));
        }
        "agent_id" | "worker" => {
            assert!(!value.is_empty() && value.len() <= 512, "{value:?}");
            assert!(!value.contains(is_hidden), "{value:?}");
            // The agent trims white space when it reads the file.
            assert_eq!(value.trim(), value);
            assert_eq!(json[name].as_str(), Some(value));
        }
        _ => assert_eq!(json[name].as_str(), Some(value)),
    }
}

/// For any clock of a hub, the time of a heartbeat can be formatted.
fn clock(body: &[u8]) {
    let Some((numbers, _)) = body.split_first_chunk::<12>() else {
        return;
    };
    let seconds = |part: &[u8]| {
        let number = part.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        // Up to the last second of 9999, as httpdate does.
        SystemTime::UNIX_EPOCH + Duration::from_secs((number << 6) % 253_402_300_800)
    };
    let date = seconds(&numbers[..4]);
    let (now, later) = (seconds(&numbers[4..8]), seconds(&numbers[8..]));
    let stamp = fuzzing::stamp_by_hub(date, now, later);
    assert!(stamp.len() == 24 && stamp.ends_with('Z'), "{stamp}");
}
