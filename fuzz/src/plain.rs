//! Text that is one value: a token, an os-release file, a `Retry-After`.

use std::time::{Duration, SystemTime};

use agent_core::escape::is_hidden;
use agent_core::token::{Kind, MAX_BYTES, Token};
use monsys_agent::fuzzing;

/// A token is what it was typed as, or is refused in words that do not depend on the secret.
pub fn token(bytes: &[u8]) {
    let Ok(raw) = std::str::from_utf8(bytes) else {
        return;
    };
    match Token::parse(raw, &"MONSYS_TOKEN") {
        Ok(token) => {
            let secret = token.secret().expose_secret();
            assert_eq!(secret, raw.trim());
            assert!(secret.len() <= MAX_BYTES);
            assert!(secret.bytes().all(|byte| byte.is_ascii_graphic()));
            let is_enrolment = secret.starts_with("enrl_");
            let is_agent = secret.starts_with("agt_") || secret.starts_with("ms_");
            assert_eq!(is_enrolment, token.kind() == Kind::Enrolment);
            assert!(is_enrolment || is_agent);
            assert!(!format!("{token:?}").contains(secret));
        }
        Err(error) => {
            let told = error.to_string();
            match Token::parse(&masked(raw.trim()), &"MONSYS_TOKEN") {
                Err(other) => assert_eq!(told, other.to_string(), "it tells of the secret"),
                Ok(_) => panic!("refused for its secret part alone: {told}"),
            }
        }
    }
}

/// The text with another secret of the same shape: all that is visible behind the prefix is `x`.
fn masked(text: &str) -> String {
    let prefix = ["enrl_", "agt_", "ms_"]
        .into_iter()
        .filter_map(|prefix| text.get(..prefix.len()))
        .find(|start| {
            ["enrl_", "agt_", "ms_"]
                .iter()
                .any(|prefix| prefix.eq_ignore_ascii_case(start))
        })
        .unwrap_or_default();
    let rest = text[prefix.len()..]
        .chars()
        .map(|c| if c.is_ascii_graphic() { 'x' } else { c });
    prefix.chars().chain(rest).collect()
}

/// A name is printable; the last assignment wins, whatever stands before it.
pub fn os_release(bytes: &[u8]) {
    if let Some(name) = fuzzing::os_release_name(bytes) {
        assert!(!name.trim().is_empty());
        assert!(!name.contains(is_hidden));
    }
    let mut with_last = bytes.to_vec();
    with_last.extend(b"\nPRETTY_NAME='The \"last\" $one' # wins\n");
    assert_eq!(
        fuzzing::os_release_name(&with_last).as_deref(),
        Some("The \"last\" $one")
    );
}

/// A wait is plain seconds or a date; a date in the past is no wait.
pub fn retry_after(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let now = SystemTime::UNIX_EPOCH + Duration::from_hours(24 * 365 * 30);
    let early = fuzzing::retry_after(text, SystemTime::UNIX_EPOCH);
    let late = fuzzing::retry_after(text, now);
    let text = text.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number {
        let seconds = text.parse().ok().map(Duration::from_secs);
        assert_eq!((early, late), (seconds, seconds));
    } else {
        assert_eq!(early.is_some(), late.is_some());
        assert!(late <= early, "a later now waits longer");
        assert!(early.is_none() || text.contains(':'), "no date");
    }
}
