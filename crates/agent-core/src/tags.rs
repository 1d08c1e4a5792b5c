//! Tags and role: what a valid one is, and how the token's defaults and the host's own merge.
//!
//! The rule is the mass-provisioning document's: default tags first, own tags appended,
//! duplicates dropped; the default role wins unless the host was given an explicit one.

use crate::error::{Error, ErrorId, Result};
use crate::sourced::Source;

/// Longest tag or role, in characters.
pub const MAX_CHARACTERS: usize = 128;
/// Most tags that a host may bring along.
pub const MAX_TAGS: usize = 64;

/// Merges the token's default tags with the host's own: defaults first, order kept, no duplicate.
#[must_use]
pub fn merge(defaults: &[String], own: &[String]) -> Vec<String> {
    let mut merged: Vec<String> = Vec::with_capacity(defaults.len() + own.len());
    for tag in defaults.iter().chain(own) {
        if !merged.contains(tag) {
            merged.push(tag.clone());
        }
    }
    merged
}

/// The host's explicit role if it has one, else the token's default. Empty is not given.
#[must_use]
pub fn merge_role(default: Option<&str>, own: Option<&str>) -> Option<String> {
    let given = |role: &&str| !role.is_empty();
    own.filter(given)
        .or(default.filter(given))
        .map(str::to_owned)
}

/// What is wrong with `tag`, if anything.
#[must_use]
pub fn tag_fault(tag: &str) -> Option<String> {
    text_fault(tag).or_else(|| tag.contains(',').then(|| "it has a comma inside".into()))
}

/// What is wrong with `role`, if anything.
#[must_use]
pub fn role_fault(role: &str) -> Option<String> {
    text_fault(role)
}

fn text_fault(text: &str) -> Option<String> {
    let length = text.chars().count();
    if length == 0 {
        Some("it is empty".into())
    } else if length > MAX_CHARACTERS {
        Some(format!(
            "it has {length} characters, and {MAX_CHARACTERS} are allowed"
        ))
    } else {
        // Joiners of zero width belong to several scripts, so these are escaped when they are printed.
        let has_control = text.chars().any(char::is_control);
        has_control.then(|| "it has a line break or another control character inside".into())
    }
}

/// Checks own tags that came from `origin`; empty ones and duplicates are dropped.
///
/// # Errors
/// [`ErrorId::BadTag`], naming `origin`.
pub fn own_tags(raw: &[String], source: &Source) -> Result<Vec<String>> {
    let mut tags = Vec::new();
    for tag in raw.iter().map(|tag| tag.trim_matches(' ')) {
        if tag.is_empty() {
            continue;
        }
        if let Some(fault) = tag_fault(tag) {
            let shown: String = tag.chars().take(40).collect();
            return Err(
                Error::new(ErrorId::BadTag, format!("tag {shown:?}: {fault}")).about(source),
            );
        }
        tags.push(tag.to_owned());
    }
    let tags = merge(&[], &tags);
    // The list in agent.toml may hold the token's defaults too; see `enrolment::plan`.
    if !matches!(source, Source::Key(..)) {
        check_count(&tags, source)?;
    }
    Ok(tags)
}

/// Checks the number of a host's own tags.
///
/// # Errors
/// [`ErrorId::BadTag`], naming `origin`.
pub fn check_count(own: &[String], source: &Source) -> Result<()> {
    if own.len() <= MAX_TAGS {
        return Ok(());
    }
    let cause = format!("{} tags, and {MAX_TAGS} are allowed", own.len());
    Err(Error::new(ErrorId::BadTag, cause).about(source))
}

/// Splits the comma-separated form of `--tags` and `MONSYS_TAGS`.
#[must_use]
pub fn split(list: &str) -> Vec<String> {
    list.split(',').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn strings(tags: &[&str]) -> Vec<String> {
        tags.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn defaults_come_first_and_duplicates_go() {
        assert_eq!(
            merge(
                &strings(&["prod", "eu-west", "web"]),
                &strings(&["shard-3", "web"])
            ),
            strings(&["prod", "eu-west", "web", "shard-3"])
        );
    }

    #[test]
    fn an_explicit_role_wins_and_an_empty_one_is_not_given() {
        assert_eq!(merge_role(Some("web"), Some("db")).as_deref(), Some("db"));
        assert_eq!(merge_role(Some("web"), Some("")).as_deref(), Some("web"));
        assert_eq!(merge_role(Some("web"), None).as_deref(), Some("web"));
        assert_eq!(merge_role(Some(""), None), None);
    }

    #[test]
    fn the_limits_are_in_characters_and_in_tags() {
        let source = Source::Variable("MONSYS_TAGS");
        assert!(own_tags(&["é".repeat(128)], &source).is_ok());
        for bad in [
            "é".repeat(129),
            "a\nb".into(),
            "a,b".into(),
            "a\u{7f}".into(),
        ] {
            let error = own_tags(&[bad], &source).unwrap_err();
            assert!(error.what().contains("MONSYS_TAGS"), "{error}");
            assert_eq!(error.exit_code(), 64);
        }
        let many: Vec<String> = (0..65).map(|i| i.to_string()).collect();
        assert!(own_tags(&many[..64], &source).is_ok());
        assert!(own_tags(&many, &source).is_err());
    }

    proptest! {
        #[test]
        fn merging_is_idempotent_stable_and_loses_nothing(
            defaults in prop::collection::vec("[a-e]{1,2}", 0..12),
            own in prop::collection::vec("[a-e]{1,2}", 0..12),
        ) {
            let once = merge(&defaults, &own);
            prop_assert_eq!(&merge(&defaults, &once), &once);
            prop_assert_eq!(&merge(&once, &own), &once);
            for tag in defaults.iter().chain(&own) {
                prop_assert_eq!(once.iter().filter(|t| *t == tag).count(), 1);
            }
            let order: Vec<usize> = once.iter()
                .map(|tag| defaults.iter().chain(&own).position(|t| t == tag).unwrap())
                .collect();
            prop_assert!(order.is_sorted());
        }
    }
}
