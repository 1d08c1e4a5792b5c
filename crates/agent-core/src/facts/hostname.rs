//! The host's name: the bind-mounted file of a container, the kernel's, or `unknown`.

use std::path::Path;

use crate::escape::is_hidden;

/// Longest name that is taken from a file, in bytes; Linux allows 64, DNS 253.
const LONGEST: usize = 253;

/// The first that answers: `file`, gethostname, `"unknown"`.
pub(super) fn read(file: &Path) -> String {
    let from_file = crate::store::safe_read::text(file)
        .ok()
        .and_then(|text| usable(&text));
    from_file
        .or_else(|| {
            let name = nix::unistd::gethostname().ok()?;
            usable(&name.to_string_lossy())
        })
        .unwrap_or_else(|| "unknown".into())
}

/// First line that is not empty and no comment, as in `/etc/hostname`.
pub fn usable(text: &str) -> Option<String> {
    let line = text
        .trim_start_matches('\u{feff}')
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'))?;
    (line.len() <= LONGEST && !line.contains(is_hidden)).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_first_line_that_says_something() {
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
    fn falls_back_to_the_kernels_name() {
        let name = read(Path::new("/nonexistent/host-hostname"));
        assert!(!name.is_empty());
    }
}
