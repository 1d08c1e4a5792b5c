//! The mock hub as a child, and the operator's calls to it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use reqwest::{Certificate, Client, Identity, Method, RequestBuilder};
use serde_json::Value;
use tokio::io::{BufReader, Lines};
use tokio::process::{ChildStdout, Command};

use xtask::error::{Context, Result, Stop};
use xtask::process::{self, Running};

/// The longest start of the hub.
const START: Duration = Duration::from_secs(30);

/// A running mock hub. Dropping it ends it.
pub struct Hub {
    /// Its URL, without a trailing slash.
    pub url: String,
    /// The CA that it made; `None` over plain HTTP.
    pub ca_file: Option<PathBuf>,
    /// The pin of that CA.
    pub ca_pin: Option<String>,
    /// The operator's secret.
    pub admin_token: String,
    running: Running,
    /// Kept open, so that the hub never writes to a closed pipe.
    _stdout: Lines<BufReader<ChildStdout>>,
}

impl Hub {
    /// Starts `program` on a free loopback port, over TLS with a CA of its own.
    /// All that it leaves on disk is in `dir`: its CA, its log, its temporary files.
    pub async fn start(program: &Path, dir: &Path) -> Result<Self> {
        Self::launch(Command::new(program).arg("--tls-dir").arg(dir), dir).await
    }

    /// Starts it with its database in a file there.
    pub async fn start_on_disk(program: &Path, dir: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        let database = dir.join("hub.db");
        command
            .arg("--tls-dir")
            .arg(dir)
            .arg("--database")
            .arg(database);
        Self::launch(&mut command, dir).await
    }

    /// Starts it, and waits until it has printed its URL.
    async fn launch(command: &mut Command, dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).context(|| format!("could not make {}", dir.display()))?;
        let log = dir.join("hub.log");
        let stderr = File::create(&log).context(|| format!("could not write {}", log.display()))?;
        let mut running = Running::spawn(
            command
                .env("TMPDIR", dir)
                .stdout(Stdio::piped())
                .stderr(stderr),
        )?;
        let mut stdout = running.lines()?;
        let hello = tokio::time::timeout(START, process::next_line("mock-hub", &mut stdout))
            .await
            .unwrap_or(Ok(None))?
            .and_then(|line| serde_json::from_str::<Value>(&line).ok())
            .ok_or_else(|| {
                let log = fs::read_to_string(&log).unwrap_or_default();
                Stop::failed(format!("the hub did not print its URL; its log:\n{log}"))
            })?;
        Ok(Self {
            url: text(&hello, "url")?.trim_end_matches('/').to_owned(),
            ca_file: hello["ca_file"].as_str().map(PathBuf::from),
            ca_pin: hello["ca_pin"].as_str().map(str::to_owned),
            admin_token: text(&hello, "admin_token")?,
            running,
            _stdout: stdout,
        })
    }

    /// A client for the operator's calls, which trusts this hub's CA and nothing else.
    pub fn operator(&self) -> Result<Operator> {
        // An error only says that a provider is there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let roots = match &self.ca_file {
            Some(file) => fs::read(file)
                .context(|| format!("could not read {}", file.display()))
                .and_then(|pem| {
                    Certificate::from_pem_bundle(&pem)
                        .context(|| format!("no certificate in {}", file.display()))
                })?,
            None => Vec::new(),
        };
        Ok(Operator {
            client: client(&roots, None)?,
            roots,
            url: self.url.clone(),
            token: self.admin_token.clone(),
        })
    }

    /// Ends it by SIGTERM, and waits for it.
    ///
    /// # Errors
    /// When it does not end, or not with 0.
    pub async fn stop(self) -> Result<()> {
        process::succeeded(
            "mock-hub, ended by SIGTERM",
            self.running.terminate().await?,
        )
    }
}

fn client(roots: &[Certificate], identity: Option<Identity>) -> Result<Client> {
    let builder = Client::builder()
        .no_proxy()
        .tls_certs_only(roots.iter().cloned())
        .timeout(START);
    let builder = match identity {
        Some(identity) => builder.identity(identity),
        None => builder,
    };
    builder.build().context(|| "no HTTP client".to_owned())
}

/// The operator's calls, with the admin token. A path that begins with `/` is absolute, any other one
/// is below `/api/v1/`.
pub struct Operator {
    client: Client,
    roots: Vec<Certificate>,
    url: String,
    token: String,
}

impl Operator {
    /// Sends `GET PATH`.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, None).await
    }

    /// Sends `POST PATH` with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// Sends `DELETE PATH`.
    pub async fn delete(&self, path: &str) -> Result<Value> {
        self.call(Method::DELETE, path, None).await
    }

    /// Returns whether `token` is the credential of the agent `id`. The hub rejects the unsigned request
    /// in any case: with 403 from the credential's owner, with 401 from all others.
    pub async fn accepts_credential(&self, id: &str, token: &str) -> Result<bool> {
        let url = self.url(&format!("agents/{id}"));
        let request = self.client.delete(&url).bearer_auth(token);
        is_accepted(request, 403, &format!("DELETE {url}")).await
    }

    /// Returns whether the hub accepts a host's own `POST PATH`, with its own token.
    pub async fn accepts(&self, path: &str, token: &str, body: &Value) -> Result<bool> {
        let url = self.url(path);
        let request = with_json(self.client.post(&url).bearer_auth(token), body);
        is_accepted(request, 200, &format!("POST {url}")).await
    }

    /// Returns the response to a host's own `GET PATH`, with its client certificate and key, in PEM;
    /// `None` if the hub rejects them.
    pub async fn get_as(&self, path: &str, certificate: &[u8]) -> Result<Option<Value>> {
        let url = self.url(path);
        let what = || format!("GET {url}");
        let identity = Identity::from_pem(certificate).context(what)?;
        let request = client(&self.roots, Some(identity))?.get(&url);
        let response = request.send().await.context(what)?;
        match response.status().as_u16() {
            200 => {
                let text = response.text().await.context(what)?;
                serde_json::from_str(&text).map(Some).context(what)
            }
            401 => Ok(None),
            other => Err(Stop::failed(format!("{}: {other}", what()))),
        }
    }

    fn url(&self, path: &str) -> String {
        match path.strip_prefix('/') {
            Some(path) => format!("{}/{path}", self.url),
            None => format!("{}/api/v1/{path}", self.url),
        }
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let url = self.url(path);
        let what = || format!("{method} {url}");
        let mut request = self
            .client
            .request(method.clone(), &url)
            .bearer_auth(&self.token);
        if let Some(body) = body {
            request = with_json(request, body);
        }
        let response = request.send().await.context(what)?;
        let status = response.status();
        let reply = response.text().await.context(what)?;
        if !status.is_success() {
            return Err(Stop::failed(format!("{}: {status} {reply}", what())));
        }
        if reply.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&reply).context(what)
    }
}

fn with_json(request: RequestBuilder, body: &Value) -> RequestBuilder {
    request
        .header("Content-Type", "application/json")
        .body(body.to_string())
}

/// Returns whether the status is `accepted` and not 401.
async fn is_accepted(request: RequestBuilder, accepted: u16, what: &str) -> Result<bool> {
    let response = request.send().await.context(|| what.to_owned())?;
    match response.status().as_u16() {
        status if status == accepted => Ok(true),
        401 => Ok(false),
        other => Err(Stop::failed(format!("{what}: {other}"))),
    }
}

/// Returns the text of a field. The error names the fields, not their secrets.
pub fn text(response: &Value, field: &str) -> Result<String> {
    response[field].as_str().map(str::to_owned).ok_or_else(|| {
        let fields: Vec<_> = response
            .as_object()
            .into_iter()
            .flat_map(|object| object.keys())
            .collect();
        Stop::failed(format!(
            "the hub's response has no text {field:?}, only {fields:?}"
        ))
    })
}
