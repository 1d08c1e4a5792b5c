//! Variables that are almost those of a setting. Without a word about them, a run would use the default hub, and
//! send the token there.

use super::table::TABLE;
use crate::environment::Environment;

/// The prefix of the agent's variables.
const PREFIX: &str = "MONSYS_";

/// Returns each variable of the environment that no setting has, with the variable of the setting that it
/// resembles, or with the flag of a setting that has no variable. Values are not read: they may be secrets.
pub fn variables(environment: &Environment) -> impl Iterator<Item = (&str, &'static str)> {
    environment
        .child_environment()
        .filter_map(|(name, _)| name.to_str())
        .filter_map(|name| Some((name, similar(name)?)))
}

/// Returns the variable or flag of the setting that `name` resembles, unless `name` is a variable itself.
fn similar(name: &str) -> Option<&'static str> {
    let typed = name.strip_prefix(PREFIX)?;
    let variables = || TABLE.iter().flat_map(|setting| setting.variables);
    if variables().any(|known| *known == name) {
        return None;
    }
    let typed = letters(typed);
    let distances = TABLE.iter().filter_map(|setting| {
        let ours = setting.variables.iter().find(|v| v.starts_with(PREFIX));
        let shown = ours
            .or(setting.variables.first())
            .or(setting.flag.as_ref())?;
        let words = setting.variables.iter().chain([&setting.name]);
        let distances = words.filter_map(|word| {
            let own = word.strip_prefix(PREFIX);
            let word = letters(own.or(word.strip_prefix("HOST_")).unwrap_or(word));
            let is_part = own.is_some()
                && typed.len() > 2
                && (word.starts_with(&typed) || word.ends_with(&typed));
            let distance = distance(&typed, &word);
            let limit = if word.len() > 4 { 2 } else { 1 };
            (is_part || distance <= limit).then_some(distance)
        });
        Some((distances.min()?, *shown))
    });
    distances.min().map(|(_, shown)| shown)
}

/// Returns the letters and digits of a name.
fn letters(name: &str) -> Vec<char> {
    let name = name.chars().filter(|letter| !"_- ".contains(*letter));
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
            ("MONSYS_TOKENS_FILE", "MONSYS_TOKEN_FILE"),
            ("MONSYS_DEADLINE", "MONSYS_WAIT"),
        ] {
            assert_eq!(similar(name), Some(variable), "{name}");
        }
    }

    #[test]
    fn a_variable_of_a_setting_that_has_another_one_or_none_is_explained() {
        for (name, shown) in [
            ("MONSYS_TOKEN_COMMAND", "--token-command"),
            ("MONSYS_TOKENCOMMAND", "--token-command"),
            ("MONSYS_PROXY", "https_proxy"),
            ("MONSYS_HTTP_PROXY", "https_proxy"),
            ("MONSYS_NO_PROXY", "no_proxy"),
            ("MONSYS_HOSTNAME_FILE", "HOST_HOSTNAME_FILE"),
        ] {
            assert_eq!(similar(name), Some(shown), "{name}");
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
