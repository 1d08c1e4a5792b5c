//! The check of every setting that is a path or a URL.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorId, Result};
use crate::escape::is_hidden;
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

/// Refuses a URL that came from `source` when its host name is not ASCII. The program has no Unicode tables
/// (`idna_adapter` 1.0), so it cannot make the A-label form (RFC 5890) of such a name itself.
///
/// # Errors
/// `id` names `source` and the first such character, and does not repeat the value: a proxy's URL may hold a
/// password.
pub fn refuse_non_ascii_host(url: &str, id: ErrorId, source: &Source) -> Result<()> {
    let Some((character, is_hidden)) = host(url).and_then(first_non_ascii) else {
        return Ok(());
    };
    let hint = if is_hidden {
        "remove the invisible character from the value of the setting named above"
    } else {
        "write the host name in its xn-- form (A-label, RFC 5890), which `idn2 NAME` prints, such as xn--bcher-kva.example"
    };
    let cause = format!("the host name contains {character}, which is not ASCII");
    Err(Error::new(id, cause).about(source).hint(hint))
}

/// Returns the host and port of a URL. Returns `None` for a password with a raw `/`, `\`, `?` or `#`, in which
/// the beginning of the password would be the host.
fn host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let end = rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let host = authority.rsplit('@').next().unwrap_or_default();
    (!rest.contains('@')).then_some(host)
}

/// Returns the first character that is not ASCII, such as `U+00FC`, or the first percent-encoded byte of one
/// (`%C3`), and whether the character is invisible.
fn first_non_ascii(host: &str) -> Option<(String, bool)> {
    if let Some(character) = host.chars().find(|character| !character.is_ascii()) {
        let name = format!("U+{:04X}", u32::from(character));
        return Some((name, is_hidden(character)));
    }
    // The `%` of an address in brackets begins its zone.
    if host.starts_with('[') {
        return None;
    }
    host.match_indices('%').find_map(|(place, _)| {
        let code = host.get(place..place + 3)?;
        let byte = u8::from_str_radix(&code[1..], 16).ok()?;
        (!byte.is_ascii()).then(|| (code.to_owned(), false))
    })
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

    #[test]
    fn a_host_name_that_is_not_ascii_is_refused_without_a_word_of_the_value() {
        let source = Source::Variable("MONSYS_HUB_URL");
        for (url, character, hint) in [
            (
                "https://b\u{fc}cher.example",
                "U+00FC",
                "xn--bcher-kva.example",
            ),
            (
                "http://user:p\u{e4}ss@\u{4f8b}.example:3128/",
                "U+4F8B",
                "xn--",
            ),
            ("https://b%C3%BCcher.example/api", "%C3", "xn--"),
            ("https://hub.example\u{200b}:8443", "U+200B", "invisible"),
            ("https://\u{feff}hub.example", "U+FEFF", "invisible"),
            ("https://hub\u{3002}example", "U+3002", "xn--"),
        ] {
            let error = refuse_non_ascii_host(url, ErrorId::BadHubUrl, &source).unwrap_err();
            assert_eq!(error.exit_code(), 64, "{url}");
            assert!(error.what().contains("MONSYS_HUB_URL"), "{error}");
            assert!(error.cause().contains(character), "{error}");
            assert!(error.next_step().contains(hint), "{error}");
            for text in ["cher.", "ss@", "hub.", "3128"] {
                assert!(!error.cause().contains(text), "{error}");
            }
        }
        for url in [
            "https://hub.example:8443/\u{fc}",
            "https://hub%2Eexample/%C3%BC",
            "https://xn--bcher-kva.example",
            "https://XN--BCHER-KVA.example",
            "https://[fe80::1%e0]",
            "http://user:p\u{e4}ss@proxy.example",
            // The beginning of a password, which is not shown.
            "http://user:p\u{e4}/ss@proxy.example",
            "http://user:p\u{e4}\\ss@proxy.example",
            "https://hub.example/%",
            "https://hub%.example",
            "hub.example",
        ] {
            let accepted = refuse_non_ascii_host(url, ErrorId::BadHubUrl, &source);
            assert!(accepted.is_ok(), "{url}");
        }
    }
}
