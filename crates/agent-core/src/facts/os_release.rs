//! The os-release file, as os-release(5) defines it: shell-like assignments without expansion.

use std::io;
use std::path::Path;

use crate::escape::is_hidden;
use crate::quoted::unquote;

/// Longest name that is sent, in characters: a hub refuses a longer one, and no fact fails an enrolment.
const LONGEST: usize = 1024;

/// Returns `PRETTY_NAME` of the first file that has it, or else `linux`.
pub(super) fn pretty_name<P: AsRef<Path>>(files: impl IntoIterator<Item = P>) -> String {
    files
        .into_iter()
        .find_map(|path| in_file(path.as_ref()).ok())
        .unwrap_or_else(|| "linux".into())
}

/// Returns `PRETTY_NAME` of `file`.
pub(super) fn in_file(file: &Path) -> io::Result<String> {
    let bytes = crate::store::safe_read::bytes(file)?;
    name_in(&bytes).ok_or_else(|| io::Error::other("it has no PRETTY_NAME"))
}

/// Returns `PRETTY_NAME` of one file, unless the name is blank.
#[must_use]
pub fn name_in(bytes: &[u8]) -> Option<String> {
    let name = value(&String::from_utf8_lossy(bytes), "PRETTY_NAME")?;
    // "All strings should not contain non-printable characters."
    let printable = name.chars().filter(|c| !is_hidden(*c));
    let printable: String = printable.take(LONGEST).collect();
    (!printable.trim().is_empty()).then_some(printable)
}

/// Returns the value of `key`. The last assignment counts, as in a shell.
pub fn value(text: &str, key: &str) -> Option<String> {
    text.trim_start_matches('\u{feff}')
        .lines()
        .rev()
        .filter_map(|line| line.trim_start().strip_prefix(key)?.strip_prefix('='))
        .find_map(unquote)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_the_man_page_allows() {
        for (text, name) in [
            (
                "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n",
                "Debian GNU/Linux 12 (bookworm)",
            ),
            (
                "NAME=x\r\nPRETTY_NAME='Fedora Linux 40'\r\n",
                "Fedora Linux 40",
            ),
            ("\u{feff}PRETTY_NAME=Arch", "Arch"),
            (
                "# PRETTY_NAME=no\nPRETTY_NAME=\"a \\\"b\\\" \\$c \\`d\\` \\\\e \\n\"",
                "a \"b\" $c `d` \\e \\n",
            ),
            ("PRETTY_NAME=one\nPRETTY_NAME=two\n", "two"),
            ("X_PRETTY_NAME=no\nPRETTY_NAME_X=no\nPRETTY_NAME=yes", "yes"),
            ("PRETTY_NAME=\"unclosed\nPRETTY_NAME2=x\n", "linux"),
            ("PRETTY_NAME=\n", "linux"),
            ("PRETTY_NAME=\"X # Y\" # comment\n", "X # Y"),
            ("PRETTY_NAME=X#Y\n", "X#Y"),
            ("", "linux"),
            ("PRETTY_NAME=\"Täst 日本\"  \n", "Täst 日本"),
        ] {
            let name_or_linux = value(text, "PRETTY_NAME")
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| "linux".into());
            assert_eq!(name_or_linux, name, "{text:?}");
        }
    }

    #[test]
    fn hidden_characters_are_left_out() {
        let text = "PRETTY_NAME=\"De\u{1b}[31mbian\u{202e} 13\u{200b}\"\n";
        assert_eq!(name_in(text.as_bytes()).as_deref(), Some("De[31mbian 13"));
        assert_eq!(name_in("PRETTY_NAME=\u{200b}\n".as_bytes()), None);
    }

    #[test]
    fn a_name_has_at_most_the_length_that_hubs_take() {
        let text = format!("PRETTY_NAME={}\n", "é".repeat(3000));
        assert_eq!(name_in(text.as_bytes()), Some("é".repeat(1024)));
    }

    proptest! {
        #[test]
        fn a_quoted_value_is_read_back(name in "[^\\r\\n\\u{feff}\\u{0}]{0,40}") {
            let single = format!("A=1\nPRETTY_NAME='{}'\n", name.replace('\'', "'\\''"));
            prop_assert_eq!(value(&single, "PRETTY_NAME"), Some(name.clone()));
            let double: String = name.chars().flat_map(|c| {
                let escape = matches!(c, '"' | '\\' | '$' | '`').then_some('\\');
                escape.into_iter().chain([c])
            }).collect();
            prop_assert_eq!(value(&format!("PRETTY_NAME=\"{double}\""), "PRETTY_NAME"), Some(name));
        }

        #[test]
        fn never_panics(text in "\\PC{0,200}") {
            let _ = value(&text, "PRETTY_NAME");
        }
    }
}
