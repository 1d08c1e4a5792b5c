//! Names, tags and roles: their limits, and how a token's defaults and a host's own are merged.

/// At most this many tags in one list.
const MAX_TAGS: usize = 64;
/// At most this many characters in one tag, or in a role.
const MAX_LENGTH: usize = 128;

/// Merges tags: the token's defaults first, then the host's own, each only once.
pub(crate) fn merge_tags(defaults: &[String], own: &[String]) -> Vec<String> {
    let mut merged: Vec<String> = Vec::with_capacity(defaults.len() + own.len());
    for tag in defaults.iter().chain(own) {
        if !merged.contains(tag) {
            merged.push(tag.clone());
        }
    }
    merged
}

/// Merges roles: the host's own role if it gave one that is not blank, else the default.
pub(crate) fn merge_role(default: Option<&str>, own: Option<&str>) -> Option<String> {
    own.filter(|role| !role.trim().is_empty())
        .or(default)
        .map(str::to_owned)
}

/// Checks that a name is one line of 1 to 128 characters, and not blank. The error is a message for the client.
pub fn check_name(name: &str) -> Result<(), String> {
    if is_line(name) {
        Ok(())
    } else {
        Err(
            "name: must be 1 to 128 characters, not only blanks, with no control character"
                .to_owned(),
        )
    }
}

/// Returns whether a text is one line of 1 to [`MAX_LENGTH`] characters, and not blank.
fn is_line(text: &str) -> bool {
    !text.trim().is_empty() && is_short(text)
}

/// Returns whether a text is one line of at most [`MAX_LENGTH`] characters.
fn is_short(text: &str) -> bool {
    text.chars().count() <= MAX_LENGTH && !text.chars().any(char::is_control)
}

/// Checks a list of tags against the limits, and returns it without white space around a tag, without blank
/// tags and without duplicates. The error is a message for the client.
pub(crate) fn read_tags(field: &str, tags: &[String]) -> Result<Vec<String>, String> {
    if tags.len() > MAX_TAGS {
        return Err(format!("{field}: at most {MAX_TAGS} tags"));
    }
    if !tags.iter().all(|tag| is_short(tag) && !tag.contains(',')) {
        return Err(format!(
            "{field}: a tag is at most {MAX_LENGTH} characters, with no comma or control character"
        ));
    }
    let trimmed = tags.iter().map(|tag| tag.trim().to_owned());
    let given: Vec<String> = trimmed.filter(|tag| !tag.is_empty()).collect();
    Ok(merge_tags(&given, &[]))
}

/// Checks a role against the limits, and returns it without white space around it. A blank role counts as not
/// given. The error is a message for the client.
pub(crate) fn read_role(field: &str, role: Option<&str>) -> Result<Option<String>, String> {
    let role = role.unwrap_or_default();
    if !is_short(role) {
        return Err(format!(
            "{field}: at most {MAX_LENGTH} characters and no control character"
        ));
    }
    Ok(Some(role.trim().to_owned()).filter(|role| !role.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tags() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec("[a-d]{1,2}", 0..8)
    }

    proptest! {
        #[test]
        fn merging_loses_nothing_and_keeps_the_order(defaults in tags(), own in tags()) {
            let merged = merge_tags(&defaults, &own);
            prop_assert_eq!(&merge_tags(&defaults, &merged), &merged, "merging twice gives the same");
            let mut expected: Vec<String> = Vec::new();
            for tag in defaults.iter().chain(&own) {
                if !expected.contains(tag) {
                    expected.push(tag.clone());
                }
            }
            prop_assert_eq!(merged, expected);
        }
    }

    #[test]
    fn the_hosts_role_wins_unless_it_is_empty() {
        assert_eq!(merge_role(Some("web"), None).as_deref(), Some("web"));
        assert_eq!(merge_role(Some("web"), Some("")).as_deref(), Some("web"));
        assert_eq!(merge_role(Some("web"), Some("db")).as_deref(), Some("db"));
        assert_eq!(merge_role(None, Some("")), None);
        assert_eq!(merge_role(Some("web"), Some(" ")).as_deref(), Some("web"));
    }

    #[test]
    fn limits_are_counted_in_characters() {
        let list = |tag: &str| vec![tag.to_owned()];
        assert!(read_tags("tags", &list(&"é".repeat(128))).is_ok());
        assert!(read_tags("tags", &list(&"é".repeat(129))).is_err());
        for tag in ["a,b", "a\nb", "a\u{7f}b", "a\u{85}b"] {
            assert!(read_tags("tags", &list(tag)).is_err(), "{tag:?}");
        }
        assert!(read_tags("tags", &vec!["a".to_owned(); 65]).is_err());
    }

    #[test]
    fn white_space_around_a_value_is_dropped_and_a_blank_one_is_not_given() {
        let raw = [" db ", "", "  ", "\u{3000}", "db", "eu west"].map(str::to_owned);
        assert_eq!(read_tags("tags", &raw).unwrap(), ["db", "eu west"]);
        let role = |raw| read_role("role", Some(raw)).unwrap();
        assert_eq!(role(" web\u{a0}").as_deref(), Some("web"));
        for blank in ["", " ", "\u{3000}"] {
            assert_eq!(role(blank), None, "{blank:?}");
        }
    }
}
