//! The host's name: from the bind-mounted file of a container, from the kernel, or `unknown`.

use std::io;
use std::path::Path;

use crate::escape::is_hidden;

/// Longest name that is read from a file, in bytes. Linux allows 64, DNS 253.
const LONGEST: usize = 253;

/// Returns the name in `file`.
pub(super) fn in_file(file: &Path) -> io::Result<String> {
    let text = crate::store::safe_read::text(file)?;
    usable(&text).ok_or_else(|| io::Error::other("it has no host name"))
}

/// Returns the name that the kernel has, or `"unknown"`.
pub(super) fn of_kernel() -> String {
    let name = nix::unistd::gethostname().ok();
    name.and_then(|name| usable(&name.to_string_lossy()))
        .unwrap_or_else(|| "unknown".into())
}

/// Returns the first line that is not empty and not a comment, as in `/etc/hostname`.
pub fn usable(text: &str) -> Option<String> {
    let line = text
        .trim_start_matches('\u{feff}')
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'))?;
    (line.len() <= LONGEST && !line.contains(is_hidden) && !is_placeholder(line))
        .then(|| line.to_owned())
}

/// Returns whether `name` stands for a name that was never set: the kernel's `(none)`, or a name of the
/// loopback address (RFC 6761, section 6.3), which every host has.
fn is_placeholder(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    let name = name.strip_suffix(".localdomain").unwrap_or(name);
    matches!(
        name,
        "" | "(none)" | "localhost" | "localhost4" | "localhost6" | "localdomain"
    ) || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_the_first_line_with_a_name() {
        assert_eq!(usable("web-3\n").as_deref(), Some("web-3"));
        assert_eq!(
            usable("# host\n\n  web-3 \nother\n").as_deref(),
            Some("web-3")
        );
        assert_eq!(usable(" \n"), None);
        assert_eq!(usable(&"a".repeat(254)), None);
        for hidden in ["a\u{1b}[31m", "a\u{202e}b", "a\u{200b}"] {
            assert_eq!(usable(hidden), None, "{hidden:?}");
        }
    }

    #[test]
    fn a_name_that_was_never_set_is_not_a_name() {
        for name in [
            "(none)",
            "(none).localdomain",
            "localhost",
            "LocalHost.",
            "localhost.localdomain",
            "localhost6.localdomain",
            "web-3.localhost",
        ] {
            assert_eq!(usable(name), None, "{name}");
        }
        for name in ["localhost-3", "my-localhost", "none", "web-3.localdomain"] {
            assert_eq!(usable(name).as_deref(), Some(name));
        }
    }

    #[test]
    fn falls_back_to_the_kernels_name() {
        assert!(in_file(Path::new("/nonexistent/host-hostname")).is_err());
        assert!(!of_kernel().is_empty());
    }
}
