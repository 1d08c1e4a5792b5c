//! AWS on loopback: moto as the cloud, and its own CLI.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::boot::suite_folder;
use crate::scene::Scene;
use crate::terraform::succeeded;

/// moto, with the token in a parameter and in a secret. Dropping it ends it.
pub(crate) struct Aws {
    bin: PathBuf,
    url: String,
    moto: Child,
    /// Kept open, so that moto never writes to a closed pipe.
    _log: BufReader<ChildStdout>,
}

impl Aws {
    pub(crate) fn start(scene: &Scene, token: &str) -> Self {
        let bin = suite_folder("MONSYS_TEST_AWS");
        let mut moto = Command::new("sh")
            .args(["-c", "exec \"$0\" -H 127.0.0.1 -p 0 2>&1"])
            .arg(bin.join("moto_server"))
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(moto.stdout.take().unwrap());
        let url = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "moto_server ended");
            if let Some((_, url)) = line.split_once("Running on ") {
                break url.trim().to_owned();
            }
        };
        let aws = Self {
            bin,
            url,
            moto,
            _log: log,
        };
        let file = scene.folder.path().join("token.txt");
        fs::write(&file, token).unwrap();
        let file = format!("file://{}", file.display());
        let parameter = "ssm put-parameter --name /monsys/enrolment --type SecureString --value";
        aws.cli(parameter, &file);
        let secret = "secretsmanager create-secret --name monsys/enrolment --secret-string";
        aws.cli(secret, &file);
        aws
    }

    /// The variables that a cloud gives to its host: the CLI, and the role.
    pub(crate) fn environment(&self) -> String {
        format!(
            "PATH=\"{}:$PATH\" AWS_ENDPOINT_URL={} AWS_ACCESS_KEY_ID=of-the-role AWS_SECRET_ACCESS_KEY=secret",
            self.bin.display(),
            self.url
        )
    }

    fn cli(&self, words: &str, value: &str) {
        let call = format!(
            "{} aws {words} \"$0\" --region eu-west-1",
            self.environment()
        );
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &call, value])
            .env("AWS_EC2_METADATA_DISABLED", "true");
        succeeded(&shell.output().unwrap());
    }
}

impl Drop for Aws {
    fn drop(&mut self) {
        let _ = self.moto.kill();
        let _ = self.moto.wait();
    }
}
