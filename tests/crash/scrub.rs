//! Scrubbing the token from cloud-init's files: after any injection, no file of cloud-init is lost,
//! incomplete, or changed in anything but the token, and the next run completes the scrub.

use std::fs;
use std::io::{Read, Write};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::common::{Prepared, Run, TestHost, TestHub};
use crate::scenario::{Case, Scenario, ensure};

/// All of them.
pub(crate) const ALL: &[Scenario] = &[Scenario {
    name: "scrubbing",
    prepare: |hub| Box::new(enrolled(hub)),
}];

const USER_DATA: &str = "var/lib/cloud/instances/i-1/user-data.txt";
const INSTANCE_DATA: &str = "run/cloud-init/instance-data-sensitive.json";
const LOG: &str = "var/log/cloud-init-output.log";
const ROTATED: &str = "var/log/cloud-init-output.log.1.gz";
/// The scrub begins when this folder is opened first.
pub(crate) const BEGUN: &str = "/var/lib/cloud";
/// Prefix of temporary files.
const DRAFT: &str = ".monsys-scrub-";

struct Scrubbing {
    host: TestHost,
    token: String,
}

fn enrolled(hub: &TestHub) -> Scrubbing {
    let token = hub.token();
    let host = TestHost::new();
    host.enrol(hub, &token).run().expect(0);
    for (path, text) in texts(&token) {
        host.write_file(path, "");
        fs::write(host.path(path), encoded(path, &text)).unwrap();
    }
    Scrubbing { host, token }
}

fn texts(token: &str) -> [(&'static str, String); 4] {
    let user_data = format!("#cloud-config\nruncmd: ['MONSYS_TOKEN={token} sh']\n");
    let log = format!(
        "begin\n+ MONSYS_TOKEN={token}\nend\n{}\n{token}\n",
        ".".repeat(300)
    );
    [
        (USER_DATA, user_data.clone()),
        (INSTANCE_DATA, user_data),
        (LOG, log.clone()),
        (ROTATED, log),
    ]
}

fn encoded(path: &str, text: &str) -> Vec<u8> {
    match path {
        INSTANCE_DATA => format!("{{\"user-data\": \"{}\"}}", BASE64_STANDARD.encode(text)).into(),
        ROTATED => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(text.as_bytes()).unwrap();
            encoder.finish().unwrap()
        }
        _ => text.into(),
    }
}

fn decoded(path: &str, bytes: &[u8]) -> Option<String> {
    let text = match path {
        INSTANCE_DATA => {
            let json: serde_json::Value = serde_json::from_slice(bytes).ok()?;
            BASE64_STANDARD.decode(json["user-data"].as_str()?).ok()?
        }
        ROTATED => {
            let mut text = Vec::new();
            GzDecoder::new(bytes).read_to_end(&mut text).ok()?;
            text
        }
        _ => bytes.into(),
    };
    String::from_utf8(text).ok()
}

impl Scrubbing {
    fn gone(&self) -> String {
        format!("enrl_{}", "x".repeat(self.token.len() - "enrl_".len()))
    }

    /// Returns each file with the token replaced, whether it is present or scrubbed.
    fn check(&self, is_done: bool) -> Result<(), String> {
        for (path, text) in texts(&self.token) {
            let bytes =
                fs::read(self.host.path(path)).map_err(|error| format!("{path}: {error}"))?;
            let is = decoded(path, &bytes).ok_or_else(|| format!("{path} is torn"))?;
            let expected = text.replace(&self.token, &self.gone());
            if is.replace(&self.token, &self.gone()) != expected || (is_done && is != expected) {
                return Err(format!("{path} is\n{is}"));
            }
        }
        Ok(())
    }

    fn drafts(&self) -> Vec<String> {
        let folders = ["var/lib/cloud", "run/cloud-init", "var/log"];
        let files = folders.iter().flat_map(|folder| self.host.files(folder));
        let names = files.map(|(path, _)| path.file_name().unwrap().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with(DRAFT)).collect()
    }
}

impl Case for Scrubbing {
    fn host(&self) -> &TestHost {
        &self.host
    }

    fn command(&self, _: &TestHub) -> Prepared {
        self.host
            .agent(&["enrol", "--offline", "--scrub-cloud-init", "yes"])
            .env("MONSYS_TOKEN", &self.token)
    }

    fn check_interrupted(&self, _: Option<&[u8]>, run: &Run) -> Result<(), String> {
        self.check(run.code == 0)
    }

    fn check_next_run(&self, hub: &TestHub) -> Result<(), String> {
        let run = self.command(hub).run();
        ensure(run.code == 0, "the next run failed", &run)?;
        self.check(true)?;
        let drafts = self.drafts();
        ensure(drafts.is_empty(), &format!("{drafts:?} stay"), &run)
    }
}
