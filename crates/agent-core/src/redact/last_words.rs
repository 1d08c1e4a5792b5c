//! The last words of a command that was to print a secret.
//!
//! Its standard output is the secret, and its standard error may repeat it, in a form that nobody
//! announced. What an operator needs of a failure is words: names of hosts, files, rights. So
//! what has the shape of a secret is taken out, and so is all that was on the standard output too.

use std::borrow::Cow;

use zeroize::Zeroizing;

use super::value::without_value;
use super::{REDACTED, redact};

/// Most characters of the last words that are shown.
const SHOWN: usize = 300;

/// Names whose values are secrets: `password=hunter2`.
const SECRET_NAMES: [&str; 8] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "key",
    "credential",
];

/// The last line of `stderr`, without anything that looks like a secret or was in `stdout`. `None` when
/// there is no such line.
#[must_use]
pub fn last_words(stderr: &[u8], stdout: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stderr);
    let last = text.trim().lines().next_back()?.trim_end();
    // Before it is shortened: the half of a secret may not look like one any more.
    let mut said = Zeroizing::new(last.to_owned());
    let printed = String::from_utf8_lossy(stdout);
    for word in printed.split(|c: char| c.is_whitespace() || c.is_control()) {
        if let Cow::Owned(clean) = without_value(&said, word) {
            said = Zeroizing::new(clean);
        }
    }
    let said = without_shapes(&redact(&said));
    let shown: String = said.chars().take(SHOWN).collect();
    (!shown.is_empty()).then_some(shown)
}

/// Replaces each word that has the shape of a secret.
fn without_shapes(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut follows_name = false;
    for piece in text.split_inclusive(is_edge) {
        let word = piece.trim_end_matches(is_edge);
        let edge = &piece[word.len()..];
        if word.is_empty() {
            clean.push_str(edge);
            continue;
        }
        if follows_name {
            clean.push_str(REDACTED);
        } else {
            clean.push_str(&shown(word));
        }
        clean.push_str(edge);
        // As in `Password: hunter2`.
        let name = word.strip_suffix(':').unwrap_or_default();
        follows_name = name.to_ascii_lowercase().starts_with("pass");
    }
    clean
}

/// Ends a word.
fn is_edge(character: char) -> bool {
    character.is_whitespace() || "\"'`,;()[]{}<>|".contains(character)
}

/// One word, without the parts of it that look like a secret.
fn shown(word: &str) -> Cow<'_, str> {
    if let Some((name, value)) = word.split_once('=')
        && !value.is_empty()
        && is_secret_name(name)
    {
        return Cow::Owned(format!("{name}={REDACTED}"));
    }
    if let Some((scheme, rest)) = word.split_once("://")
        && let Some((_, host)) = rest.rsplit_once('@')
    {
        return Cow::Owned(format!("{scheme}://{REDACTED}@{}", shown(host)));
    }
    if is_opaque(word) {
        return Cow::Borrowed(REDACTED);
    }
    let parts: Vec<&str> = word.split_inclusive(is_separator).collect();
    if !parts.iter().any(|part| has_shape(part)) {
        return Cow::Borrowed(word);
    }
    let hide = |part: &&str| {
        if has_shape(part) {
            let edge = part.trim_start_matches(|c| !is_separator(c));
            format!("{REDACTED}{edge}")
        } else {
            (*part).to_owned()
        }
    };
    Cow::Owned(parts.iter().map(hide).collect())
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let last = name.rsplit(['-', '_', '.', '&', '?']).next();
    SECRET_NAMES.iter().any(|secret| {
        last.is_some_and(|last| last.trim_start_matches("api").trim_end_matches('s') == *secret)
    })
}

/// Separates the parts of a path, a host's name, a URL or an ARN.
fn is_separator(character: char) -> bool {
    "/\\.:@=&?%#".contains(character)
}

/// A word that is neither a path nor a name with parts, such as base64, which may have a slash inside.
fn is_opaque(word: &str) -> bool {
    word.chars().count() >= 12
        && !word.starts_with('/')
        && !word.contains(['.', ':', '\\'])
        && is_mixed(word)
}

/// Longer than a word of a language, or with letters and digits mixed as no name has them.
fn has_shape(part: &str) -> bool {
    let part = part.trim_end_matches(is_separator);
    let length = part.chars().count();
    let has_digit = part.chars().any(char::is_numeric);
    let has_letter = part.chars().any(char::is_alphabetic);
    length >= 32 || (length >= 16 && has_digit && has_letter) || (length >= 12 && is_mixed(part))
}

fn is_mixed(text: &str) -> bool {
    text.chars().any(char::is_lowercase)
        && text.chars().any(char::is_uppercase)
        && text.chars().any(char::is_numeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(stderr: &str, stdout: &str) -> String {
        last_words(stderr.as_bytes(), stdout.as_bytes()).unwrap_or_default()
    }

    #[test]
    fn what_looks_like_a_secret_is_not_shown() {
        for secret in [
            "SECRETabcdef0123456789",
            "6f1c2a1e-8f0e-4a55-9a3c-0d8f5f3b7f10",
            "aB3/xY9+kL2mN4pQ==",
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abcDEF123ghiJKL456",
            "deadbeefdeadbeefdeadbeefdeadbeef",
            "Tr0ub4dor&3xyz99Q",
            "hvs.CAESIJlU9JMYEhOPYv4igdhmb9KJ5Kud",
        ] {
            for text in [
                format!("no: {secret}"),
                format!("token=\"{secret}\" is bad"),
                format!("https://u:{secret}@host/"),
            ] {
                let said = said(&text, "");
                for run in secret.as_bytes().windows(8) {
                    let run = std::str::from_utf8(run).unwrap();
                    assert!(!said.contains(run), "{secret}: {said}");
                }
            }
        }
        for (text, clean) in [
            ("password=hunter2", "password=[redacted]"),
            ("Password: hunter2", "Password: [redacted]"),
            ("X_API_KEY=abc1 rejected", "X_API_KEY=[redacted] rejected"),
            (
                "http://bob:hunter2@proxy:3128 refused",
                "http://[redacted]@proxy:3128 refused",
            ),
        ] {
            assert_eq!(said(text, ""), clean);
        }
    }

    #[test]
    fn what_an_operator_needs_is_shown() {
        for text in [
            "cat: /run/secrets/monsys-token: Permission denied",
            "sh: 1: vault: not found",
            "Unable to locate credentials. You can configure credentials by running \"aws configure\".",
            "An error occurred (AccessDeniedException) when calling the GetSecretValue operation: User: arn:aws:sts::123456789012:assumed-role/web-role is not authorized to perform: secretsmanager:GetSecretValue",
            "curl: (6) Could not resolve host: vault.internal.example.com",
            "Get \"https://vault.example.com:8200/v1/secret/data/monsys\": dial tcp 10.0.0.12:8200: connect: connection refused",
            "ERROR: (gcloud.secrets.versions.access) PERMISSION_DENIED",
        ] {
            assert_eq!(said(text, ""), text);
        }
    }

    #[test]
    fn what_was_on_the_standard_output_is_not_shown() {
        assert_eq!(
            said(
                "cannot use 'correct horse batterystaple'",
                "batterystaple\n"
            ),
            "cannot use 'correct horse [redacted]'"
        );
        assert_eq!(said("bad hunter2hunter", "hunter2hunter"), "bad [redacted]");
        assert_eq!(said("bad hunter2hun…", "hunter2hunter"), "bad [redacted]…");
    }

    #[test]
    fn only_the_last_line_is_shown_and_not_all_of_a_long_one() {
        assert_eq!(said("first\nlast\n\n", ""), "last");
        assert_eq!(last_words(b" \n", b"x"), None);
        assert_eq!(said(&"word ".repeat(999), "").chars().count(), SHOWN);
    }
}
