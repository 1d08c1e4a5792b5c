//! An env file with a credential put into it and a secret taken out: nothing else is changed.

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
        // Where the credential stood before, its line may hold anything in front of the value.
        let holds = |line: &[u8]| find(line, secret.as_bytes()) && !find(line, KEY.as_bytes());
        assert!(
            !clean.split(|byte| *byte == b'\n').any(holds),
            "the secret survived"
        );
        own_lines_are_kept(text, &clean, secret.as_bytes());
    }
}

/// Every line that has neither key nor the secret, and is not continued, stands where it stood.
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
        // A last line without an end gets the file's own: its bytes stay, and a `\r\n` follows.
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
