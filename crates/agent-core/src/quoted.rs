//! Shell words with quotes, as in os-release(5) and env files.

/// Reads one shell word, which consists of bare, single-quoted and double-quoted pieces. A quote that does
/// not close makes the line invalid.
#[must_use]
pub fn unquote(text: &str) -> Option<String> {
    // The word may be a secret. A string that grows would leave a copy of the secret in memory.
    let mut word = String::with_capacity(text.len());
    let mut characters = text.trim_end().chars();
    while let Some(character) = characters.next() {
        match character {
            // A comment after the value, as in a shell.
            ' ' | '\t' if characters.as_str().trim_start().starts_with('#') => break,
            '\'' => loop {
                match characters.next()? {
                    '\'' => break,
                    inside => word.push(inside),
                }
            },
            '"' => loop {
                match characters.next()? {
                    '"' => break,
                    '\\' => match characters.next()? {
                        escaped @ ('"' | '\\' | '$' | '`') => word.push(escaped),
                        other => word.extend(['\\', other]),
                    },
                    inside => word.push(inside),
                }
            },
            '\\' => word.extend(characters.next()),
            bare => word.push(bare),
        }
    }
    Some(word)
}
