//! The mock hub does what docs/openapi.yaml says, and nothing that it does not say.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use super::Count;
use xtask::error::{Context, Result, Stop};
use xtask::process::{self, Running};
use xtask::tools;

/// `addFault` is tried by itself: a fault changes the answers of the other calls, on purpose.
const RUNS: [&[&str]; 2] = [
    &["--exclude-operation-id=addFault"],
    &[
        "--include-operation-id=addFault",
        "--phases=examples,coverage,fuzzing",
    ],
];

pub(crate) async fn run() -> Result<Count> {
    let [hub] = tools::build(["mock-hub"], &[]).await?;
    let bin = tools::venv("openapi", "xtask/requirements/openapi.txt").await?;
    let mut count = Count::default();
    for options in RUNS {
        let outcome = schemathesis(&bin, &hub, options).await;
        count.check(&options.join(" "), outcome);
    }
    Ok(count)
}

/// A folder of what the description's examples ask for.
fn dist(scratch: &Path) -> Result<PathBuf> {
    let dist = scratch.join("dist");
    let files = [
        (
            "install.sh",
            "#!/bin/sh\nDEFAULT_DOWNLOAD_URL=''\nDEFAULT_HUB_URL=''\n",
        ),
        ("SHA256SUMS", "none yet\n"),
    ];
    fs::create_dir(&dist)
        .and_then(|()| {
            files
                .iter()
                .try_for_each(|(name, text)| fs::write(dist.join(name), text))
        })
        .context(|| format!("could not fill {}", dist.display()))?;
    Ok(dist)
}

/// Runs schemathesis against a hub of its own, without TLS.
async fn schemathesis(bin: &Path, hub: &Path, options: &[&str]) -> Result<()> {
    let scratch = tempfile::tempdir().context(|| "no scratch directory".to_owned())?;
    let mut hub = Command::new(hub);
    hub.arg("--http")
        .arg("--dist")
        .arg(dist(scratch.path())?)
        .env("TMPDIR", scratch.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut hub = Running::spawn(&mut hub)?;
    // Kept open, so that the hub never writes to a closed pipe.
    let mut lines = hub.lines()?;
    let line = process::next_line("mock-hub", &mut lines).await?;
    let hello: Value = serde_json::from_str(&line.unwrap_or_default()).unwrap_or_default();
    let text = |field: &str| {
        let text = hello[field].as_str();
        text.ok_or_else(|| Stop::failed(format!("the hub did not print its {field}")))
    };
    let mut schemathesis = Command::new(bin.join("schemathesis"));
    schemathesis
        .args(["--config-file", "mock-hub/schemathesis/schemathesis.toml"])
        .args(["run", "docs/openapi.yaml", "--url"])
        .arg(text("url")?.trim_end_matches('/'))
        .args(options)
        // The configuration file takes the secret from here: it is not an argument.
        .env("MOCK_HUB_ADMIN_TOKEN", text("admin_token")?)
        .current_dir(tools::root());
    process::run(&mut schemathesis).await?;
    process::succeeded("mock-hub, ended by SIGTERM", hub.terminate().await?)
}
