//! The limits of a text on LyftData's wire.

/// Checks a text against the limits. The error is a message for the client.
pub(super) fn check_text(field: &str, text: &str) -> Result<(), String> {
    if (1..=128).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(format!(
        "{field}: must be 1 to 128 characters with no control character"
    ))
}
