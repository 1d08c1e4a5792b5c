//! The check of every setting that is a path or a URL.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorId, Result};
use crate::sourced::Source;

/// Refuses a control character (C0, DEL, C1) in a path or URL that came from `source`: such a character could
/// forge a line in a unit or a log, and no path or URL of an operator needs one.
///
/// # Errors
/// [`ErrorId::BadSetting`] names `source` and the character, and does not repeat the value: a proxy's
/// URL may hold a password.
pub fn refuse_control(value: impl AsRef<OsStr>, source: &Source) -> Result<()> {
    let text = value.as_ref().to_string_lossy();
    match text.chars().enumerate().find(|(_, c)| c.is_control()) {
        None => Ok(()),
        Some((place, character)) => Err(Error::new(
            ErrorId::BadSetting,
            format!(
                "character {} is the control character U+{:04X}",
                place + 1,
                u32::from(character)
            ),
        )
        .about(source)
        .hint("remove the control character from the value of the setting named above")),
    }
}

/// Makes a path that came from `source` absolute.
///
/// # Errors
/// As [`refuse_control`].
pub fn absolute_path(path: &Path, source: &Source) -> Result<PathBuf> {
    refuse_control(path, source)?;
    std::path::absolute(path).map_err(|error| {
        Error::new(
            ErrorId::BadSetting,
            format!("it is not a valid path: {error}"),
        )
        .about(source)
    })
}

/// Returns a value, unless it is empty or of white space alone. Such a value counts as not given.
#[must_use]
pub fn given(value: Option<&str>) -> Option<&str> {
    value.filter(|value| !value.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn every_control_character_is_refused_and_nothing_else() {
        let source = Source::Variable("MONSYS_CA_FILE");
        for character in (0..=0x2ff).filter_map(char::from_u32) {
            let refused = refuse_control(format!("/a{character}b"), &source).is_err();
            assert_eq!(refused, character.is_control(), "{character:?}");
        }
        let error = refuse_control("/a\nb", &source).unwrap_err();
        assert_eq!(error.exit_code(), 64);
        assert!(error.what().contains("MONSYS_CA_FILE"), "{error}");
        assert!(error.cause().contains("character 3"), "{error}");
        assert!(error.cause().contains("U+000A"), "{error}");
        assert!(refuse_control(OsStr::from_bytes(b"/\xff\n"), &source).is_err());
        assert!(refuse_control(OsStr::from_bytes(b"/\xff"), &source).is_ok());
    }
}
