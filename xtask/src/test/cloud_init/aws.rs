//! AWS on loopback: moto as the cloud, and its own CLI.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{BufReader, Lines};
use tokio::process::{ChildStdout, Command};

use super::Scene;
use crate::error::{Context, Result, Stop};
use crate::process::{self, Running};
use crate::tools;

/// How long it may take until it answers.
const START: Duration = Duration::from_mins(2);

/// moto, with the token in a parameter and in a secret. Dropping it ends it.
pub(super) struct Aws {
    bin: PathBuf,
    url: String,
    _running: Running,
    /// Kept open, so that it never writes to a closed pipe.
    _log: Lines<BufReader<ChildStdout>>,
}

impl Aws {
    pub(super) async fn start(scene: &Scene, token: &str) -> Result<Self> {
        let bin = tools::venv("aws", "xtask/requirements/aws.txt").await?;
        let mut moto = Command::new("sh");
        moto.args(["-c", "exec \"$0\" -H 127.0.0.1 -p 0 2>&1"])
            .arg(bin.join("moto_server"))
            .env("PYTHONUNBUFFERED", "1")
            .stdout(Stdio::piped());
        let mut running = Running::spawn(&mut moto)?;
        let mut log = running.lines()?;
        let url = tokio::time::timeout(START, async {
            while let Some(line) = process::next_line("moto_server", &mut log).await? {
                if let Some((_, url)) = line.split_once("Running on ") {
                    return Ok(url.trim().to_owned());
                }
            }
            Err(Stop::failed("moto_server ended"))
        })
        .await
        .unwrap_or_else(|_| Err(Stop::failed("moto_server did not say where it listens")))?;
        let aws = Self {
            bin,
            url,
            _running: running,
            _log: log,
        };
        let file = scene.folder.path().join("token.txt");
        fs::write(&file, token).context(|| "the token's file".to_owned())?;
        let file = format!("file://{}", file.display());
        let parameter = [
            "ssm",
            "put-parameter",
            "--name",
            "/monsys/enrolment",
            "--type",
        ];
        aws.cli(&[&parameter[..], &["SecureString", "--value", &file]].concat())
            .await?;
        let secret = [
            "secretsmanager",
            "create-secret",
            "--name",
            "monsys/enrolment",
        ];
        aws.cli(&[&secret[..], &["--secret-string", &file]].concat())
            .await?;
        Ok(aws)
    }

    /// What a host is given by its cloud, as variables of a shell: the CLI, and who it is.
    pub(super) fn environment(&self) -> String {
        format!(
            "PATH=\"{}:$PATH\" AWS_ENDPOINT_URL={} AWS_ACCESS_KEY_ID=of-the-role AWS_SECRET_ACCESS_KEY=secret",
            self.bin.display(),
            self.url
        )
    }

    async fn cli(&self, arguments: &[&str]) -> Result<()> {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("{} aws \"$@\"", self.environment()), "aws"])
            .args(arguments)
            .args(["--region", "eu-west-1"])
            .env("AWS_EC2_METADATA_DISABLED", "true");
        let said = process::capture(&mut shell).await?;
        if said.status.success() {
            return Ok(());
        }
        Err(Stop::failed(said.text()))
    }
}
