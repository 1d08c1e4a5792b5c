//! An env file: storing a credential and removing a secret change nothing else.

use agent_core::store::env_file::{value, with_value, without_secret};

use crate::parts;

const KEY: &str = "SENSOR_TOKEN";
const SECRET_KEY: &str = "INSTALL_TOKEN";
const NOTE: &str = "# consumed";

/// Parts: the secret, then the credential, then the file.
pub fn env_file(bytes: &[u8]) {
    let [secret, credential, _] = parts(bytes);
    // The file need not be UTF-8.
    let begin = secret.len() + credential.len() + 2 * "\n---\n".len();
    let text = bytes.get(begin.min(bytes.len())..).unwrap_or_default();
    let is_plain =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_plain(&secret) || !is_plain(&credential) {
        let _ = value(text, KEY);
        return;
    }
    let put = with_value(text, KEY, &credential);
    let read = value(&put, KEY).unwrap_or_else(|cause| panic!("{cause}"));
    assert_eq!(
        read.as_deref().map(String::as_str),
        Some(credential.as_str())
    );
    assert_eq!(
        *with_value(&put, KEY, &credential),
        *put,
        "it is not idempotent"
    );

    let clean = without_secret(&put, SECRET_KEY, NOTE, &secret, &[KEY]);
    assert!(matches!(value(&clean, SECRET_KEY), Ok(None)));
    let read = value(&clean, KEY).unwrap_or_else(|cause| panic!("{cause}"));
    assert_eq!(
        read.as_deref().map(String::as_str),
        Some(credential.as_str())
    );
    if secret.len() >= 12 && !credential.contains(&secret) {
        // The line of an earlier credential may have any text before the value.
        let has_secret = |line: &[u8]| find(line, secret.as_bytes()) && !find(line, KEY.as_bytes());
        assert!(
            !clean.split(|byte| *byte == b'\n').any(has_secret),
            "the secret survived"
        );
        own_lines_are_kept(text, &clean, secret.as_bytes());
    }
}

/// Checks that every line without a key, the secret or a continuation is in its old place.
fn own_lines_are_kept(before: &[u8], after: &[u8], secret: &[u8]) {
    let is_own = |line: &[u8]| {
        ![KEY.as_bytes(), SECRET_KEY.as_bytes(), secret]
            .iter()
            .any(|part| find(line, part))
    };
    if find(before, b"\\") {
        return;
    }
    let mut left = after.split(|byte| *byte == b'\n');
    for line in before
        .split(|byte| *byte == b'\n')
        .filter(|line| is_own(line))
    {
        // A last line without a line ending gets that of the file: `\r\n` follows its bytes.
        let line = without_returns(line);
        let stands = |other: &[u8]| without_returns(other) == line;
        assert!(
            left.any(stands),
            "the line {:?} is gone or moved",
            String::from_utf8_lossy(line)
        );
    }
}

fn without_returns(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|byte| *byte != b'\r');
    &line[..end.map_or(0, |last| last + 1)]
}

fn find(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
