//! Variables that are almost those of a setting. Without a word about them, a run would use the default hub, and
//! send the token there.

use super::table::TABLE;
use crate::environment::Environment;

/// The prefix of the agent's variables.
const PREFIX: &str = "MONSYS_";

/// Returns each variable of the environment that no setting has, with the similar one that a setting has. Values
/// are not read: they may be secrets.
pub fn variables(environment: &Environment) -> impl Iterator<Item = (&str, &'static str)> {
    environment
        .child_environment()
        .filter_map(|(name, _)| name.to_str())
        .filter_map(|name| Some((name, similar(name)?)))
}

/// Returns the variable of a setting that `name` is almost, unless `name` is one itself.
fn similar(name: &str) -> Option<&'static str> {
    let name = name.strip_prefix(PREFIX)?;
    let known = || TABLE.iter().flat_map(|setting| setting.variables);
    let ours = || known().filter_map(|known| Some((*known, known.strip_prefix(PREFIX)?)));
    if ours().any(|(_, known)| known == name) {
        return None;
    }
    let typed = letters(name);
    let distances = ours().filter_map(|(variable, known)| {
        let known = letters(known);
        let is_part = typed.len() > 2 && (known.starts_with(&typed) || known.ends_with(&typed));
        let distance = distance(&typed, &known);
        let limit = if known.len() > 4 { 2 } else { 1 };
        (is_part || distance <= limit).then_some((distance, variable))
    });
    distances.min().map(|(_, variable)| variable)
}

/// Returns the letters of a name without its underscores.
fn letters(name: &str) -> Vec<char> {
    let name = name.chars().filter(|letter| *letter != '_');
    name.map(|letter| letter.to_ascii_uppercase()).collect()
}

/// Returns the number of letters to insert, to remove or to replace (the distance of Levenshtein).
fn distance(from: &[char], to: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, letter) in from.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_variable_has_a_similar_one() {
        for (name, variable) in [
            ("MONSYS_HUBURL", "MONSYS_HUB_URL"),
            ("MONSYS_HUB", "MONSYS_HUB_URL"),
            ("MONSYS_URL", "MONSYS_HUB_URL"),
            ("MONSYS_hub_url", "MONSYS_HUB_URL"),
            ("MONSYS_TOKN", "MONSYS_TOKEN"),
            ("MONSYS_TAG", "MONSYS_TAGS"),
            ("MONSYS_ROLES", "MONSYS_ROLE"),
            ("MONSYS_CAFILE", "MONSYS_CA_FILE"),
            ("MONSYS_CONFIG_", "MONSYS_CONFIG"),
        ] {
            assert_eq!(similar(name), Some(variable), "{name}");
        }
    }

    #[test]
    fn other_variables_have_no_similar_one() {
        for name in [
            "MONSYS_HUB_URL",
            "MONSYS_TOKEN",
            // The variables of install.sh, and one of an operator.
            "MONSYS_DOWNLOAD_URL",
            "MONSYS_VERSION",
            "MONSYS_SHA256",
            "MONSYS_VERIFY",
            "MONSYS_ENVIRONMENT",
            "MONSYS_",
            "MONSYS_é",
            "OTHER_HUB",
            "HUB_URL",
        ] {
            assert_eq!(similar(name), None, "{name}");
        }
    }
}
