//! Splits text into the words of its sentences and names.

/// A word in lower case, with its place.
#[derive(Debug)]
pub(crate) struct Word {
    pub(crate) text: String,
    /// The number of its line, from 1.
    pub(crate) line: usize,
    /// True when only spaces, line breaks and comment marks separate this word from the one before.
    pub(crate) continues: bool,
    /// True for the first word of a docstring.
    pub(crate) begins_docstring: bool,
}

/// The words of a file.
pub(crate) struct Words(pub(crate) Vec<Word>);

impl Words {
    /// Splits `text` at everything but letters and digits, and names such as `isEnrolled` at capitals.
    pub(crate) fn of(text: &str, is_rust: bool) -> Self {
        let mut words: Vec<Word> = Vec::new();
        let mut continues = false;
        let mut was_docstring = false;
        for (index, line) in text.lines().enumerate() {
            let trimmed = line.trim_start();
            let is_docstring = is_rust
                && ["/// ", "//! "]
                    .iter()
                    .any(|mark| trimmed.starts_with(mark));
            let belongs_to_one =
                is_docstring || is_rust && was_docstring && ["///", "//!"].contains(&trimmed);
            let mut begins_docstring = is_docstring && !was_docstring;
            was_docstring = belongs_to_one;
            for (piece, separator) in pieces(line) {
                if !separator.chars().all(joins) {
                    continues = false;
                }
                if piece.is_empty() {
                    continue;
                }
                words.push(Word {
                    text: piece.to_lowercase(),
                    line: index + 1,
                    continues,
                    begins_docstring,
                });
                continues = true;
                begins_docstring = false;
            }
        }
        Self(words)
    }
}

/// Returns true for a character that may stand between two words of one phrase.
fn joins(c: char) -> bool {
    c.is_whitespace() || "/#*_>!'’-".contains(c)
}

/// Returns each word of a line with its separator from the word before. The last word is empty.
fn pieces(line: &str) -> Vec<(String, String)> {
    let mut pieces = vec![(String::new(), String::new())];
    let mut was_lower = false;
    let mut in_word = false;
    for c in line.chars() {
        if !c.is_alphanumeric() {
            if in_word {
                pieces.push((String::new(), String::new()));
            }
            in_word = false;
        } else if in_word && was_lower && c.is_uppercase() {
            pieces.push((String::new(), String::new()));
        }
        if let Some((word, separator)) = pieces.last_mut() {
            if c.is_alphanumeric() {
                word.push(c);
                in_word = true;
            } else {
                separator.push(c);
            }
        }
        was_lower = c.is_lowercase();
    }
    pieces
}
