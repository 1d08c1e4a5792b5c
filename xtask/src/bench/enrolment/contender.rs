//! Who enrols, and the command that each does it with.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::json;

use super::Scene;
use crate::error::{Context, Result, Stop};

/// Who enrols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// The agent with a CA file.
    Agent,
    /// The agent with a pin, for which it goes through the built-in roots as well.
    AgentWithRoots,
    /// `benches/src/bin/floor.rs`.
    Floor,
    /// The bare POST, of a body that was made and signed before.
    Curl,
    /// The same by a script, which also writes agent.toml.
    Shell,
    /// A handshake, and nothing sent.
    Handshake,
}

/// A program to be started, with nothing else in its environment.
pub(crate) struct Start {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(&'static str, OsString)>,
}

impl Contender {
    pub(crate) const ALL: [Self; 6] = [
        Self::Agent,
        Self::AgentWithRoots,
        Self::Floor,
        Self::Curl,
        Self::Shell,
        Self::Handshake,
    ];

    /// Its name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Agent => "monsys-agent, CA given",
            Self::AgentWithRoots => "monsys-agent, built-in roots",
            Self::Floor => "floor: socket and rustls",
            Self::Curl => "curl, the same POST",
            Self::Shell => "sh, curl, jq, install, mv",
            Self::Handshake => "openssl, handshake alone",
        }
    }

    /// What it runs, and Debian's package of it.
    pub(crate) fn needs(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Agent | Self::AgentWithRoots | Self::Floor => &[],
            Self::Curl => &[("/usr/bin/curl", "curl")],
            Self::Shell => &[("/usr/bin/curl", "curl"), ("/usr/bin/jq", "jq")],
            Self::Handshake => &[("/usr/bin/openssl", "openssl")],
        }
    }

    /// How a new host is enrolled by it at `address` (`127.0.0.1:PORT`).
    pub(crate) fn start(self, scene: &Scene, address: &str) -> Result<Start> {
        let root = scene.host()?;
        let ca_file = root.join("etc/hub-ca.pem");
        let url = format!("https://{address}");
        let token = ("MONSYS_TOKEN", OsString::from(&scene.token));
        let path = ("PATH", std::env::var_os("PATH").unwrap_or_default());
        let start = |program: &Path, arguments: Vec<OsString>, environment| Start {
            program: program.to_owned(),
            arguments,
            environment,
        };
        Ok(match self {
            Self::Agent | Self::AgentWithRoots => {
                let mut arguments = words(&["--root"]);
                arguments.push(root.into());
                arguments.extend(words(&["enrol", "--hub-url", &url]));
                if self == Self::Agent {
                    arguments.extend(words(&["--ca-file"]));
                    arguments.push(ca_file.into());
                } else {
                    let pin = scene.hub.ca_pin.as_deref().unwrap_or_default();
                    arguments.extend(words(&["--ca-pin", pin]));
                }
                start(&scene.programs.agent, arguments, vec![token])
            }
            Self::Floor => start(
                &scene.programs.floor,
                vec![address.into(), ca_file.into(), root.into()],
                vec![token],
            ),
            Self::Curl => start(
                Path::new("curl"),
                curl(&scene.sign(&root)?, &root, &ca_file, &url),
                vec![path],
            ),
            Self::Shell => {
                scene.sign(&root)?;
                let script = root.join("enrol.sh");
                fs::write(&script, SCRIPT).context(|| "the script".to_owned())?;
                start(
                    Path::new("sh"),
                    vec![script.into(), root.into(), url.into()],
                    vec![path],
                )
            }
            Self::Handshake => {
                let mut arguments = words(&["s_client", "-brief", "-connect", address]);
                arguments.extend(words(&["-verify_return_error", "-CAfile"]));
                arguments.push(ca_file.into());
                start(Path::new("openssl"), arguments, vec![path])
            }
        })
    }
}

/// What somebody writes who has no agent, after the request has been made and signed for them.
const SCRIPT: &str = r#"set -eu
cd "$1"
umask 077
curl -q -sS --fail --cacert etc/hub-ca.pem -H @head --data-binary @body -o answer "$2/api/v1/agents/enrol"
id=$(jq -er .agent_id answer)
token=$(jq -er .agent_token answer)
printf 'hub_url = "%s"\nagent_id = "%s"\nagent_token = "%s"\n' "$2" "$id" "$token" >agent.toml
install -D -m 600 agent.toml etc/monsys/.agent.toml
mv etc/monsys/.agent.toml etc/monsys/agent.toml
rm answer agent.toml
"#;

fn curl(head: &Path, root: &Path, ca_file: &Path, url: &str) -> Vec<OsString> {
    let at = |path: &Path| {
        let mut word = OsString::from("@");
        word.push(path);
        word
    };
    let mut arguments = words(&["-q", "-sS", "--fail", "--cacert"]);
    arguments.push(ca_file.into());
    arguments.push("-H".into());
    arguments.push(at(head));
    arguments.push("--data-binary".into());
    arguments.push(at(&root.join("body")));
    arguments.push("-o".into());
    arguments.push(root.join("answer").into());
    arguments.push(format!("{url}/api/v1/agents/enrol").into());
    arguments
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

/// A request that is ready to be sent: its signature and its body.
pub(crate) struct Signed {
    pub(crate) signature: String,
    pub(crate) body: Vec<u8>,
}

impl Scene {
    /// The request of a host with a new key.
    pub(crate) fn request(&self) -> Result<Signed> {
        let broken = |_| Stop::failed("ring made no key");
        let pair = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(broken)
            .and_then(|pkcs8| {
                Ed25519KeyPair::from_pkcs8(pkcs8.as_ref())
                    .map_err(|_| Stop::failed("ring made no key"))
            })?;
        let mut body = self.facts.clone();
        body["tags"] = json!([]);
        body["signing_pubkey"] = json!(STANDARD.encode(pair.public_key().as_ref()));
        let body = body.to_string().into_bytes();
        let digest = ring::digest::digest(&ring::digest::SHA256, &body);
        Ok(Signed {
            signature: STANDARD.encode(pair.sign(digest.as_ref())),
            body,
        })
    }

    /// Headers of such a request.
    pub(crate) fn head(&self, signed: &Signed) -> String {
        format!(
            "Authorization: Bearer {}\nContent-Type: application/json\nX-Monsys-Signature: {}\n",
            self.token, signed.signature
        )
    }

    /// Lays such a request beside a host's files; where its headers are.
    fn sign(&self, root: &Path) -> Result<PathBuf> {
        let signed = self.request()?;
        let what = || format!("could not write below {}", root.display());
        let head = root.join("head");
        fs::write(&head, self.head(&signed)).context(what)?;
        fs::write(root.join("body"), &signed.body).context(what)?;
        Ok(head)
    }
}
