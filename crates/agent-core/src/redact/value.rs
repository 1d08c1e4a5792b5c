//! A secret taken out of a text by its own value.

use std::borrow::Cow;

use zeroize::Zeroizing;

use super::REDACTED;

/// Fewest characters that are looked for: a shorter run may be a word of the message itself.
const SHORTEST: usize = 8;

/// Replaces each run of at least eight characters that `text` has in common with `secret`: the other
/// side may repeat a part of it, or cut it off. A secret of fewer characters is not looked for.
#[must_use]
pub fn without_value<'a>(text: &'a str, secret: &str) -> Cow<'a, str> {
    let plain = without_runs(text, secret);
    // As a quoted text has it, with a backslash before a quote.
    let escaped = Zeroizing::new(format!("{secret:?}"));
    let escaped = escaped.trim_matches('"');
    if escaped == secret {
        return plain;
    }
    match without_runs(&plain, escaped) {
        Cow::Borrowed(_) => plain,
        Cow::Owned(clean) => Cow::Owned(clean),
    }
}

fn without_runs<'a>(text: &'a str, secret: &str) -> Cow<'a, str> {
    let mut clean = String::new();
    let (mut from, mut at) = (0, 0);
    while let Some(character) = text[at..].chars().next() {
        let run = longest_run(&text[at..], secret);
        if run == 0 {
            at += character.len_utf8();
            continue;
        }
        clean.push_str(&text[from..at]);
        clean.push_str(REDACTED);
        at += run;
        from = at;
    }
    if from == 0 {
        return Cow::Borrowed(text);
    }
    clean.push_str(&text[from..]);
    Cow::Owned(clean)
}

/// Length in bytes of the longest run of `secret` that `text` begins with; 0 for a short one.
fn longest_run(text: &str, secret: &str) -> usize {
    let common = |secret: &str| {
        let same = text.chars().zip(secret.chars());
        let same = same.take_while(|(ours, theirs)| ours == theirs);
        same.fold((0, 0), |(count, bytes), (character, _)| {
            (count + 1, bytes + character.len_utf8())
        })
    };
    let starts = secret.char_indices().map(|(start, _)| &secret[start..]);
    let (count, bytes) = starts.map(common).max().unwrap_or_default();
    if count >= SHORTEST { bytes } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_and_parts_of_it_go() {
        let secret = "s3cret-of-the-fleet";
        for (text, clean) in [
            ("no s3cret-of-the-fleet!", "no [redacted]!"),
            ("it said \"s3cret-of-th\"", "it said \"[redacted]\""),
            ("…of-the-fleet", "…[redacted]"),
            ("s3cret", "s3cret"),
            (
                "s3cret-of-the-fleets3cret-of-the-fleet",
                "[redacted][redacted]",
            ),
        ] {
            assert_eq!(without_value(text, secret), clean);
        }
        assert_eq!(without_value("a word", "word"), "a word");
        let quoted = format!("{:?}", "say \"hush\" to it");
        assert_eq!(
            without_value(&quoted, "say \"hush\" to it"),
            "\"[redacted]\""
        );
        assert_eq!(
            without_value("bad: übergeheim!", "übergeheim"),
            "bad: [redacted]!"
        );
    }

    proptest! {
        #[test]
        fn a_secret_never_stays(before in ".{0,20}", secret in "[!-~]{8,40}", after in ".{0,20}") {
            let clean = without_value(&format!("{before}{secret}{after}"), &secret).into_owned();
            prop_assert!(!clean.contains(&secret));
        }
    }
}
