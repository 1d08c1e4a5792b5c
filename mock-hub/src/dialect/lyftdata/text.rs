//! The limits of a text on LyftData's wire.

/// Checks a text against the limits. A blank text is refused. The error is a message for the client.
pub(super) fn check_text(field: &str, text: &str) -> Result<(), String> {
    let fits = text.chars().count() <= 128 && !text.chars().any(char::is_control);
    if fits && !text.trim().is_empty() {
        return Ok(());
    }
    Err(format!(
        "{field}: must be 1 to 128 characters, not only blanks, with no control character"
    ))
}
