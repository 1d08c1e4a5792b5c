//! `cargo test` over the workspace; its counts are added up.

use std::ffi::OsStr;

use super::Count;
use crate::error::Result;
use crate::{process, tools};

/// What rotates logs beside it, what packs them, what reads the agent's requests for certificates, what
/// watches its system calls, what reads its units as systemd does, and what runs it as another user.
const PROGRAMS: [(&str, &str); 8] = [
    ("/usr/sbin/logrotate", "logrotate"),
    ("/usr/bin/bzip2", "bzip2"),
    ("/usr/bin/openssl", "openssl"),
    ("/usr/bin/strace", "strace"),
    ("/usr/bin/systemd-analyze", "systemd"),
    ("/usr/bin/setpriv", "util-linux"),
    ("/usr/bin/xz", "xz-utils"),
    ("/usr/bin/zstd", "zstd"),
];

pub(crate) async fn run() -> Result<Count> {
    tools::programs(&PROGRAMS).await?;
    let mut what = vec!["--workspace", "--no-fail-fast"];
    if nix::unistd::geteuid().is_root() {
        // `parsers` needs what the suite `scrub` makes.
        what.extend(["--", "--include-ignored", "--skip=parsers::"]);
    }
    cargo_test(&what).await
}

/// Runs `cargo test` with these arguments and adds up the counts of its test binaries.
pub(crate) async fn cargo_test(what: &[&str]) -> Result<Count> {
    cargo_test_with(what, &[]).await
}

/// The same, with these variables in the tests' environment.
pub(crate) async fn cargo_test_with(what: &[&str], variables: &[(&str, &OsStr)]) -> Result<Count> {
    let mut total = Count::default();
    let mut cargo = tools::cargo(&["test", "--locked"]);
    cargo.args(what).envs(variables.iter().copied());
    let status = process::watch(&mut cargo, |line| {
        if let Some(count) = result_line(line) {
            total += count;
        }
    })
    .await?;
    if !status.success() && total.failed == 0 {
        // It did not compile, or a test binary died before it could count.
        total.failed = 1;
    }
    Ok(total)
}

/// Reads `test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; …`.
fn result_line(line: &str) -> Option<Count> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |what: &str| {
        counts
            .split("; ")
            .find_map(|part| part.strip_suffix(what)?.trim().parse().ok())
    };
    Some(Count {
        passed: number(" passed")?,
        failed: number(" failed")?,
        skipped: number(" ignored")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_test_binary_is_read() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; \
                    0 filtered out; finished in 0.52s";
        assert_eq!(
            result_line(line),
            Some(Count {
                passed: 12,
                failed: 3,
                skipped: 1
            })
        );
        assert_eq!(result_line("test facts::os_release ... ok"), None);
    }
}
