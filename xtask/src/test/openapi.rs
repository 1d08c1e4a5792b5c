//! The mock hub does what docs/openapi.yaml says, and nothing that it does not say.

use std::path::Path;

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

/// One run of schemathesis against a hub of its own.
async fn schemathesis(bin: &Path, hub: &Path, options: &[&str]) -> Result<()> {
    let scratch = tempfile::tempdir().context(|| "no scratch directory".to_owned())?;
    let hub = Hub::start_plain(hub, scratch.path()).await?;
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
