//! Tables and lists, as people read them.

use serde_json::Value;

use crate::escape::one_line;

/// Rows of label and value, the values in one column. A value is one line, whatever is in it.
#[must_use]
pub fn rows(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    rows.iter().fold(String::new(), |text, (label, value)| {
        text + &format!("  {label:width$}  {}\n", one_line(value))
    })
}

/// A list for people.
#[must_use]
pub fn list(items: &[String]) -> String {
    if items.is_empty() {
        "none".into()
    } else {
        items.join(", ")
    }
}

/// A text, a number, a list of texts, or nothing.
pub fn format_value(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => list(&items.iter().map(format_value).collect::<Vec<_>>()),
        other => other.to_string(),
    }
}
