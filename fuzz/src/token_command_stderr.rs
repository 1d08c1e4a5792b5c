//! The part of a token command's standard error that an error quotes.

use agent_core::redact::{last_words as words, redact};

use crate::parts;

const REDACTED: &str = "[redacted]";
const LONGEST: usize = 300;
/// Shortest part of a secret that must not be quoted, in characters.
const SHORTEST: usize = 8;

/// Parts: standard error, then standard output. The quoted text is short, and contains no token and nothing
/// from standard output.
pub fn token_command_stderr(bytes: &[u8]) {
    let [stderr, stdout] = parts(bytes);
    let Some(message) = words(stderr.as_bytes(), stdout.as_bytes()) else {
        return;
    };
    assert!(
        !message.is_empty() && message.chars().count() <= LONGEST,
        "{message}"
    );
    assert!(!message.contains('\n'), "{message}");
    assert_eq!(redact(&message), message);
    let pieces: Vec<&str> = message
        .split(REDACTED)
        .map(|piece| piece.trim_matches(['[', ']']))
        .collect();
    for word in stdout.split(|c: char| c.is_whitespace() || c.is_control()) {
        let ends: Vec<usize> = word
            .char_indices()
            .map(|(at, _)| at)
            .chain([word.len()])
            .collect();
        for window in ends.windows(SHORTEST + 1) {
            let run = &word[window[0]..window[SHORTEST]];
            assert!(
                !pieces.iter().any(|piece| piece.contains(run)),
                "{run:?} in {message:?}"
            );
        }
    }
}
