//! shellcheck and shfmt over every shell script of the project.

use std::fs;
use std::path::Path;

use tokio::process::Command;

use super::Count;
use xtask::error::{Result, Stop};
use xtask::{process, tools};

pub(crate) async fn run() -> Result<Count> {
    let scripts = scripts().await?;
    let bin = tools::venv("shell", "xtask/requirements/shell.txt").await?;
    let mut count = Count::default();
    for (tool, options) in [
        ("shellcheck", ["--external-sources", "--color=auto"]),
        ("shfmt", ["--diff", "--indent=2"]),
    ] {
        let mut check = Command::new(bin.join(tool));
        check
            .args(options)
            .args(&scripts)
            .current_dir(tools::root());
        count.check(tool, process::run(&mut check).await);
    }
    println!("{} scripts: {}", scripts.len(), scripts.join(" "));
    Ok(count)
}

/// Every file that git tracks, or would, and that is a script by its name or its first line.
async fn scripts() -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ])
    .current_dir(tools::root());
    let listed = process::stdout_of(&mut git).await?;
    let mut scripts: Vec<_> = listed
        .split_terminator('\0')
        .filter(|file| is_script(file))
        .map(str::to_owned)
        .collect();
    scripts.sort();
    scripts.dedup();
    if scripts.is_empty() {
        return Err(Stop::failed("git lists no shell script, not even .ci/run"));
    }
    Ok(scripts)
}

fn is_script(file: &str) -> bool {
    let Ok(bytes) = fs::read(tools::root().join(file)) else {
        return false; // deleted but not yet committed, or a link to nowhere
    };
    let first_line = bytes
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let named = Path::new(file)
        .extension()
        .is_some_and(|extension| extension == "sh");
    named || names_a_shell(&String::from_utf8_lossy(first_line))
}

/// `#!/bin/sh`, `#!/usr/bin/env bash`, `#!/bin/sh -e`, …
fn names_a_shell(first_line: &str) -> bool {
    first_line.strip_prefix("#!").is_some_and(|interpreter| {
        interpreter
            .split_whitespace()
            .filter_map(|word| word.rsplit('/').next())
            .any(|word| ["sh", "bash", "dash", "ksh"].contains(&word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_known_by_its_first_line() {
        for line in ["#!/bin/sh", "#!/usr/bin/env bash", "#! /bin/sh -e"] {
            assert!(names_a_shell(line), "{line}");
        }
        for line in ["", "# sh", "#!/usr/bin/env python3", "#!/bin/fish"] {
            assert!(!names_a_shell(line), "{line}");
        }
    }
}
