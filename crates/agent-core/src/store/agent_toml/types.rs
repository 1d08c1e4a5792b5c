//! The types of the keys of `agent.toml`, in words for people.

use toml_edit::{DocumentMut, Item};

use super::KNOWN_KEYS;

/// Returns the cause when a key that the agent knows has the wrong type: its name and the right type, and
/// never its value, which may be a secret. A key on the line of the parser's error is named first.
pub(super) fn wrong(text: &str, line: &str) -> Option<String> {
    let document: DocumentMut = text.parse().ok()?;
    let is_wrong = |key: &&&str| {
        document
            .get(key)
            .is_some_and(|item| !has_type_of(key, item))
    };
    let keys: Vec<&&str> = KNOWN_KEYS.iter().filter(is_wrong).collect();
    let named = keys.iter().find(|key| {
        let rest = line.trim_start().strip_prefix(***key);
        rest.is_some_and(|rest| rest.trim_start().starts_with('='))
    });
    let key = named.or(keys.first())?;
    Some(format!("`{key}` has to be {}", type_of(key)))
}

fn type_of(key: &str) -> &'static str {
    match key {
        "tags" => r#"an array of strings, such as ["prod", "web"]"#,
        "allow_http" => "true or false, without quotes",
        "wait" | "splay" | "readmission_interval" => {
            r#"a duration, such as "90s", or a number of seconds"#
        }
        _ => "a string in quotes",
    }
}

fn has_type_of(key: &str, item: &Item) -> bool {
    match key {
        "tags" => item
            .as_array()
            .is_some_and(|list| list.iter().all(toml_edit::Value::is_str)),
        "allow_http" => item.is_bool(),
        "wait" | "splay" | "readmission_interval" => item.is_str() || item.is_integer(),
        _ => item.is_str(),
    }
}
