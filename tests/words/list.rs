//! The rules of `words.txt` and the exceptions of `allowed.txt`.

use std::fmt;

use crate::text::{Word, Words};

/// A word or a phrase that the project does not use.
pub(crate) struct Rule {
    pub(crate) pattern: &'static str,
    /// The words to write in its place.
    pub(crate) instead: &'static str,
    begins_docstring: bool,
    elements: Vec<Element>,
}

/// An element of a pattern.
enum Element {
    /// `word`.
    Word(&'static str),
    /// `word*`: each word with this beginning.
    Prefix(&'static str),
    /// `!a|b`: any word except these, or no word.
    Except(Vec<&'static str>),
}

/// A match of a rule.
pub(crate) struct Found {
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// An exception: a word that is right in one place.
pub(crate) struct Allowed {
    place: &'static str,
    word: &'static str,
    /// A part of the line; an empty part matches each line.
    within: &'static str,
    pub(crate) is_used: bool,
}

/// Reads `words.txt`.
pub(crate) fn rules() -> Vec<Rule> {
    let parse = |line: &'static str| {
        let (pattern, instead) = line.split_once('\t').expect("PATTERN<TAB>INSTEAD");
        let (begins_docstring, words) = match pattern.strip_prefix("/// ") {
            Some(words) => (true, words),
            None => (false, pattern),
        };
        Rule {
            pattern,
            instead,
            begins_docstring,
            elements: words.split(' ').map(Element::of).collect(),
        }
    };
    lines(include_str!("words.txt")).map(parse).collect()
}

/// Reads `allowed.txt`.
pub(crate) fn allowed() -> Vec<Allowed> {
    let parse = |line: &'static str| {
        let fields: Vec<_> = line.split('\t').collect();
        let [place, word, within, reason] = fields[..] else {
            panic!("PLACE<TAB>WORD<TAB>PART OF THE LINE<TAB>REASON: {line}");
        };
        assert!(!reason.is_empty(), "an exception has a reason: {line}");
        Allowed {
            place,
            word,
            within,
            is_used: false,
        }
    };
    lines(include_str!("allowed.txt")).map(parse).collect()
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

impl Rule {
    /// Returns every match of the rule.
    pub(crate) fn find<'a>(
        &'a self,
        words: &'a Words,
    ) -> impl Iterator<Item = (&'a Self, Found)> + 'a {
        let first = self.elements.iter().find(|element| !element.is_except());
        let can_begin = move |at: &usize| first.is_some_and(|one| one.matches(&words.0[*at].text));
        let found = (0..words.0.len()).filter(can_begin);
        found.filter_map(move |at| Some((self, self.matches(&words.0, at)?)))
    }

    /// Matches the rule at word `at`, which is the first one after leading exclusions.
    fn matches(&self, words: &[Word], at: usize) -> Option<Found> {
        let before = self.elements.iter().take_while(|one| one.is_except());
        let first = before.count();
        let mut shown = Vec::new();
        for (index, element) in self.elements.iter().enumerate() {
            let place = (at + index).checked_sub(first);
            let word = place.and_then(|place| words.get(place));
            let in_phrase = match (index, first, word) {
                // The word before the phrase, and the first word of the phrase itself.
                (index, first, _) if index < first => words[at].continues,
                (index, first, _) if index == first => true,
                (_, _, word) => word.is_some_and(|word| word.continues),
            };
            match (element, word.filter(|_| in_phrase)) {
                (Element::Except(_), None) => {}
                (element, Some(word)) if element.matches(&word.text) => {
                    if !element.is_except() || index > first {
                        shown.push(word.text.as_str());
                    }
                }
                _ => return None,
            }
        }
        if self.begins_docstring && !words[at].begins_docstring {
            return None;
        }
        Some(Found {
            line: words[at].line,
            text: shown.join(" "),
        })
    }

    /// Returns a text that the rule matches once.
    pub(crate) fn example(&self) -> String {
        let words = self.elements.iter().map(|element| match element {
            Element::Word(word) | Element::Prefix(word) => word,
            Element::Except(_) => "zebra",
        });
        let mark = if self.begins_docstring { "/// " } else { "" };
        format!("{mark}{}", words.collect::<Vec<_>>().join(" "))
    }
}

impl Element {
    fn of(text: &'static str) -> Self {
        if let Some(words) = text.strip_prefix('!') {
            return Self::Except(words.split('|').collect());
        }
        match text.strip_suffix('*') {
            Some(prefix) => Self::Prefix(prefix),
            None => Self::Word(text),
        }
    }

    fn matches(&self, word: &str) -> bool {
        match self {
            Self::Word(own) => word == *own,
            Self::Prefix(own) => word.starts_with(own),
            Self::Except(others) => !others.contains(&word),
        }
    }

    fn is_except(&self) -> bool {
        matches!(self, Self::Except(_))
    }
}

impl Allowed {
    /// Returns true when this exception is for that word on that line of that place.
    pub(crate) fn covers(&self, place: &str, line: &str, word: &str) -> bool {
        place == self.place && word == self.word && line.contains(self.within)
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: `{}` {}", self.place, self.word, self.within)
    }
}
