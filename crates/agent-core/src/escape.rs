//! Escapes characters that control a terminal or hide in a text.
//!
//! A hub, a file or a child process may put such characters into what the agent prints: they could
//! move the cursor, forge a line, or show a text in another order than it has. Everything that is
//! printed goes through [`lines`] or [`json`] at the end (`main`, `log`). Values that have no line
//! breaks of our own go through [`one_line`] where they are put into a text.

use std::borrow::Cow;
use std::fmt::Write;

/// Spaces before each further line of a message, so that no text from outside begins a line.
const INDENT: &str = "        ";

/// Returns whether `character` is a control character (C0, DEL, C1) or an invisible one.
#[must_use]
pub fn is_hidden(character: char) -> bool {
    character.is_control() || is_invisible(character)
}

/// Bidirectional controls, zero-width characters, and what Unicode has for line breaks and tags.
fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{61c}' | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}'
    )
}

/// Escapes all hidden characters but line breaks and tabs: for a text with lines of our own.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_hidden(c) && c != '\n' && c != '\t')
}

/// Escapes all hidden characters, line breaks and tabs too: for a value from outside.
#[must_use]
pub fn one_line(text: &str) -> Cow<'_, str> {
    escaped(text, is_hidden)
}

/// As [`lines`], with each further line indented: for a message that may quote several lines.
#[must_use]
pub fn indented(text: &str) -> Cow<'_, str> {
    let text = lines(text);
    if !text.contains('\n') {
        return text;
    }
    let mut all = text.lines();
    let mut indented = all.next().unwrap_or_default().to_owned();
    for line in all {
        indented.push('\n');
        if !line.starts_with(INDENT) {
            indented.push_str(INDENT);
        }
        indented.push_str(line);
    }
    Cow::Owned(indented)
}

/// Writes the hidden characters of a JSON text as `\u` escapes. The values stay the same: a serializer
/// leaves such characters within strings alone (RFC 8259 section 7), and escapes C0 by itself.
#[must_use]
pub fn json(text: &str) -> Cow<'_, str> {
    let is_raw = |c: char| is_hidden(c) && c >= ' ';
    if !text.contains(is_raw) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_raw(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(clean, "\\u{unit:04x}");
            }
        } else {
            clean.push(character);
        }
    }
    Cow::Owned(clean)
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_escaped(character) {
            clean.extend(character.escape_default());
        } else {
            clean.push(character);
        }
    }
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One of each kind that issue 13 names.
    const HOSTILE: &str = "a\u{0}\u{1b}]0;PWN\u{7}\r\u{7f}\u{9b}31m\u{61c}\u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2060}\u{2066}\u{2067}\u{2068}\u{2069}\u{feff}z";

    #[test]
    fn no_hidden_character_is_left() {
        for clean in [lines(HOSTILE), one_line(HOSTILE), json(HOSTILE)] {
            let rest: String = clean
                .chars()
                .filter(|c| is_hidden(*c) && *c >= ' ')
                .collect();
            assert_eq!(rest, "", "{clean:?}");
        }
        assert!(!one_line(HOSTILE).contains(is_hidden));
        assert_eq!(one_line("a\u{1b}[2J\u{202e}\n"), r"a\u{1b}[2J\u{202e}\n");
        assert_eq!(lines("a\n\tb\r\n"), "a\n\tb\\r\n");
        assert_eq!(lines("Zürich, 東京, Ελλάδα"), "Zürich, 東京, Ελλάδα");
    }

    #[test]
    fn a_quoted_line_cannot_pass_for_one_of_ours() {
        assert_eq!(
            indented("failed\n  hint:  run this\n        kept"),
            "failed\n          hint:  run this\n        kept"
        );
    }

    #[test]
    fn json_keeps_its_values() {
        let value = serde_json::json!({HOSTILE: [HOSTILE, "\u{e0041}", "\n"]});
        let text = value.to_string();
        let clean = json(&text);
        assert!(!clean.contains(is_hidden), "{clean:?}");
        let read: serde_json::Value = serde_json::from_str(&clean).unwrap();
        assert_eq!(read, value);
    }

    proptest! {
        #[test]
        fn json_of_anything_stays_the_same_value(text in ".{0,40}") {
            let value = serde_json::json!([text]);
            let written = value.to_string();
            let clean = json(&written);
            prop_assert!(!clean.contains(is_hidden));
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&clean).unwrap(), value);
        }
    }
}
