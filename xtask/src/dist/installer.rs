//! install.sh, with what it has to know of this release written into it.

use std::fs;

use super::Release;
use xtask::error::{Result, Stop};
use xtask::tools;

const SOURCE: &str = "packaging/install.sh";

/// The script that installs these binaries, whose lines of `sha256sum` are among `checksums`.
pub(super) fn make(
    release: &Release,
    checksums: &str,
    binaries: &[String],
    public_key: Option<&str>,
) -> Result<String> {
    let script = fs::read_to_string(tools::root().join(SOURCE)).map_err(|cause| {
        Stop::failed(format!(
            "{SOURCE}: {cause}; all else of the release is made, but without an installer it is none"
        ))
    })?;
    let sums: Vec<_> = checksums
        .lines()
        .filter(|line| {
            binaries
                .iter()
                .any(|name| line.ends_with(&format!("  {name}")))
        })
        .collect();
    if sums.len() != binaries.len() {
        return Err(Stop::failed("a binary has no checksum"));
    }
    let script = set(&script, "DEFAULT_VERSION", |_| {
        Some(release.version.clone())
    })?;
    let script = set(&script, "DEFAULT_DOWNLOAD_URL", |url| {
        let site = url.strip_suffix("/v0.0.0")?;
        Some(format!("{site}/v{}", release.version))
    })?;
    let script = set(&script, "CHECKSUMS", |_| Some(sums.join("\n")))?;
    set(&script, "MINISIGN_KEY", |_| {
        Some(public_key.unwrap_or_default().to_owned())
    })
}

/// Gives the one line `NAME='…'` another value, made from the one that it has.
fn set(script: &str, name: &str, value: impl Fn(&str) -> Option<String>) -> Result<String> {
    let (mut lines, mut found) = (Vec::new(), 0);
    for line in script.lines() {
        let old = line
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix("='")?.strip_suffix('\''));
        match old.map(&value) {
            None => lines.push(line.to_owned()),
            Some(Some(new)) if !new.contains('\'') => {
                found += 1;
                lines.push(format!("{name}='{new}'"));
            }
            Some(_) => {
                return Err(Stop::failed(format!(
                    "{SOURCE}: the value is not as it should be: {line}"
                )));
            }
        }
    }
    if found != 1 {
        return Err(Stop::failed(format!(
            "{SOURCE} has to have the line {name}='…' once, and has it {found} times"
        )));
    }
    Ok(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_given_its_value() {
        let set = |script: &str| set(script, "KEY", |old| Some(format!("{old}2\n3")));
        assert_eq!(set("a\nKEY='1'\nb\n").unwrap(), "a\nKEY='12\n3'\nb\n");
        for bad in ["", "KEY=1", " KEY='1'", "KEY='1'\nKEY='1'", "KEYS='1'"] {
            assert!(set(bad).is_err(), "{bad}");
        }
    }
}
