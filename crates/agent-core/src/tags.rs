//! Tags and role: their checks, and the merge of the token's defaults with the host's own.
//!
//! The merge follows the mass-provisioning document: default tags first, own tags appended, duplicates
//! dropped; the default role counts unless the host has an explicit role.

use crate::error::{Error, ErrorId, Result};
use crate::sourced::Source;

/// Longest tag or role, in characters.
pub const MAX_CHARACTERS: usize = 128;
/// Largest number of own tags of a host.
pub const MAX_TAGS: usize = 64;

/// Merges the token's default tags with the host's own: defaults first, in the same order, no duplicate.
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

/// Returns the host's explicit role, or else the token's default. A blank role counts as unset.
#[must_use]
pub fn merge_role(default: Option<&str>, own: Option<&str>) -> Option<String> {
    let is_set = |role: &&str| !role.trim().is_empty();
    own.filter(is_set)
        .or(default.filter(is_set))
        .map(str::to_owned)
}

/// Returns the reason why `tag` is not valid, if it is not.
#[must_use]
pub fn tag_fault(tag: &str) -> Option<String> {
    text_fault(tag).or_else(|| tag.contains(',').then(|| "it contains a comma".into()))
}

/// Returns the reason why `role` is not valid, if it is not.
#[must_use]
pub fn role_fault(role: &str) -> Option<String> {
    text_fault(role)
}

fn text_fault(text: &str) -> Option<String> {
    let length = text.chars().count();
    if text.trim().is_empty() {
        Some("it is empty or blank".into())
    } else if length > MAX_CHARACTERS {
        Some(format!(
            "it has {length} characters, and at most {MAX_CHARACTERS} are allowed"
        ))
    } else {
        // Several scripts need joiners of zero width, so these are allowed, and escaped in the output.
        let has_control = text.chars().any(char::is_control);
        has_control.then(|| "it contains a line break or another control character".into())
    }
}

/// Checks own tags that came from `source`, and drops the white space around each, blank tags and duplicates.
///
/// # Errors
/// [`ErrorId::BadTag`], naming `source`.
pub fn own_tags(raw: &[String], source: &Source) -> Result<Vec<String>> {
    let mut tags = Vec::new();
    for tag in raw.iter().map(|tag| tag.trim()) {
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
/// [`ErrorId::BadTag`], naming `source`.
pub fn check_count(own: &[String], source: &Source) -> Result<()> {
    if own.len() <= MAX_TAGS {
        return Ok(());
    }
    let cause = format!("{} tags, and at most {MAX_TAGS} are allowed", own.len());
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
    fn an_explicit_role_wins_and_an_empty_one_counts_as_unset() {
        assert_eq!(merge_role(Some("web"), Some("db")).as_deref(), Some("db"));
        assert_eq!(merge_role(Some("web"), Some("")).as_deref(), Some("web"));
        assert_eq!(merge_role(Some("web"), None).as_deref(), Some("web"));
        assert_eq!(merge_role(Some(""), None), None);
        assert_eq!(merge_role(Some("web"), Some(" ")).as_deref(), Some("web"));
    }

    #[test]
    fn white_space_around_a_tag_does_not_count_and_a_blank_tag_is_none() {
        let source = Source::Variable("MONSYS_TAGS");
        for list in ["a\n", "a\r\n", " a\t, \u{a0}", "\n,a, ,"] {
            assert_eq!(own_tags(&split(list), &source).unwrap(), ["a"], "{list:?}");
        }
        assert!(tag_fault(" ").is_some() && role_fault("\t").is_some());
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
