//! The last words of a token command.

use agent_core::redact::{last_words as words, redact};

use crate::parts;

const REDACTED: &str = "[redacted]";
const LONGEST: usize = 300;
/// Fewest characters of a secret that are looked for.
const SHORTEST: usize = 8;

/// Parts: standard error, then standard output. The last words are short, and hold nothing that was on
/// the standard output and no token.
pub fn last_words(bytes: &[u8]) {
    let [stderr, stdout] = parts(bytes);
    let Some(said) = words(stderr.as_bytes(), stdout.as_bytes()) else {
        return;
    };
    assert!(
        !said.is_empty() && said.chars().count() <= LONGEST,
        "{said}"
    );
    assert!(!said.contains('\n'), "{said}");
    assert_eq!(redact(&said), said);
    let pieces: Vec<&str> = said
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
                "{run:?} in {said:?}"
            );
        }
    }
}
