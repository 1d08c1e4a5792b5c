//! The mock hub does what docs/openapi.yaml says, and nothing that it does not say.

use std::fs;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::Count;
use crate::error::{Context, Result};
use crate::hub::Hub;
use crate::{process, tools};

/// `addFault` is tried by itself: a fault changes the answers of the other calls, on purpose.
const RUNS: [&[&str]; 2] = [
    &["--exclude-operation-id=addFault"],
    &[
        "--include-operation-id=addFault",
        "--phases=examples,coverage,fuzzing",
    ],
];

pub(crate) async fn run() -> Result<Count> {
    let hub = tools::build().await?.hub;
    let bin = tools::venv("openapi", "xtask/requirements/openapi.txt").await?;
    let mut count = Count::default();
    for options in RUNS {
        match schemathesis(&bin, &hub, options).await {
            Ok(()) => count.passed += 1,
            Err(stop) => {
                count.failed += 1;
                println!("{stop}");
            }
        }
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

/// One run of schemathesis against a hub of its own.
async fn schemathesis(bin: &Path, hub: &Path, options: &[&str]) -> Result<()> {
    let scratch = tempfile::tempdir().context(|| "no scratch directory".to_owned())?;
    let hub = Hub::start_plain(hub, scratch.path(), &dist(scratch.path())?).await?;
    let mut schemathesis = Command::new(bin.join("schemathesis"));
    schemathesis
        .args(["--config-file", "mock-hub/schemathesis/schemathesis.toml"])
        .args(["run", "docs/openapi.yaml", "--url", &hub.url])
        .args(options)
        // The configuration file takes the secret from here: it is no argument.
        .env("MOCK_HUB_ADMIN_TOKEN", &hub.admin_token)
        .current_dir(tools::root());
    process::run(&mut schemathesis).await?;
    hub.stop().await
}
