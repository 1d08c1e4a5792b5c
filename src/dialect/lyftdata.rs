//! `LyftData`: an HMAC of a shared secret and a nonce, exchanged for a worker's id and an API key,
//! put into two files of the jobs directory.
//!
//! The secret itself never travels. The order of writes: what is asked for, *exchange*, what was
//! confirmed (both, in one file), key, id, and the file goes. So a crash after the answer is ended
//! by the next run. An answer that is lost before cannot be asked for again: to the hub the name is
//! taken then, which it says, and so no second worker is made.
//!
//! Source: `LyftData`'s "Worker Auto Enrollment". Fields of the enrolment are the contract's.

use std::io::ErrorKind::{NotADirectory, NotFound};
use std::path::PathBuf;

use reqwest::Method;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Account, Dialect, Exchange, Folder, Kept, Later, Plan, Preview};
use crate::doctor::Check;
use crate::enrolment::{self, Done, Enrolment, Held};
use crate::error::{Error, ErrorId, Result};
use crate::facts::HostFacts;
use crate::hub::client::{Client, Reply, Request, SendError};
use crate::hub::retry::Limit;
use crate::hub::verdict::{self, Outcome};
use crate::settings::{Flags, Setting, Settings, SystemSettings};
use crate::store::atomic::{self, Owner};
use crate::store::{read, unreadable, unwritable};
use crate::text::rows;
use crate::token::{Kind, Secret, Token};
use crate::token_source::TokenSource;
use crate::world::World;

/// Path of the enrolment.
const ENROLL: &str = "/api/workers/enroll";
/// File of the worker's id, in the jobs directory.
const ID_FILE: &str = "LYFTDATA_WORKER_ID";
/// File of its API key.
const KEY_FILE: &str = ".LYFTDATA_WORKER_API_KEY";
/// What is asked for, or confirmed and not yet in its files.
const JOURNAL: &str = ".monsys-enrol.json";
const LOCK: &str = ".monsys-enrol.lock";
/// Where the secret is to be had.
const SECRET: &str = "LYFTDATA_AUTO_ENROLLMENT_KEY";
/// An id to ask for.
const WORKER_ID: &str = "LYFTDATA_WORKER_ID";

static URL: Setting = Setting {
    name: "LyftData's server",
    flag: Some("--hub-url"),
    variables: &["LYFTDATA_URL", "MONSYS_HUB_URL"],
    key: None,
    default: None,
    help: "Where the control plane is.",
};
static NAME: Setting = Setting {
    name: "worker's name",
    flag: Some("--worker-name"),
    variables: &["LYFTDATA_WORKER_NAME"],
    key: None,
    default: None,
    help: "Unique name of the worker, 1 to 128 characters.",
};
static JOBS_DIR: Setting = Setting {
    name: "worker's jobs directory",
    flag: Some("--worker-jobs-dir"),
    variables: &["LYFTDATA_WORKER_JOBS_DIR"],
    key: None,
    default: Some("/var/lib/lyftdata-worker"),
    help: "Where the worker's id and API key are put.",
};
static KEY: Setting = Setting {
    name: "auto-enrollment secret",
    flag: None,
    variables: &[SECRET, "MONSYS_TOKEN"],
    key: None,
    default: None,
    help: "The shared secret. `--token-file` and `--token-command` give it as well.",
};
static ID: Setting = Setting {
    name: "worker's id",
    flag: None,
    variables: &[WORKER_ID],
    key: None,
    default: None,
    help: "An id to ask for; without one, the server makes one.",
};

/// The settings that only this system has.
pub(super) static SETTINGS: &[&Setting] = &[&URL, &NAME, &JOBS_DIR, &KEY, &ID];

/// Whether only this system's own variables are there.
pub(super) fn is_meant(world: &World) -> bool {
    world.env("LYFTDATA_URL").is_some() || world.secret(SECRET).is_some()
}

/// This host, as a worker of a `LyftData` server.
pub(super) struct Lyftdata<'a> {
    flags: &'a Flags,
    world: &'a World,
    settings: Settings,
    jobs_dir: PathBuf,
    name: Option<String>,
    /// An id to ask for.
    worker: Option<String>,
}

/// What the journal holds.
#[derive(Serialize, Deserialize)]
struct Journal {
    /// The name that was asked for.
    name: String,
    /// When, RFC 3339.
    asked_at: String,
    /// What the server has confirmed for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    confirmed: Option<Worker>,
}

/// A worker: what the server answers, and what the two files hold.
#[derive(Clone, Serialize, Deserialize)]
struct Worker {
    #[serde(rename = "worker")]
    id: String,
    name: String,
    api_key: Zeroizing<String>,
}

/// Where this host stands.
enum Standing {
    /// Neither file is there.
    New,
    /// The server has confirmed it, and not all of its files are there.
    Unfinished,
    /// Both are, with this id.
    Enrolled(String),
}

impl<'a> Lyftdata<'a> {
    /// Reads the settings.
    ///
    /// # Errors
    /// Usage errors, which name the flag or variable.
    pub(super) fn read(flags: &'a Flags, world: &'a World) -> Result<Self> {
        let jobs_dir = JOBS_DIR.pick(flags.worker_jobs_dir.as_deref(), world)?;
        let jobs_dir = jobs_dir.unwrap_or_default();
        let jobs_dir = std::path::absolute(&jobs_dir).map_err(|error| {
            Error::new(ErrorId::BadSetting, error.to_string()).about("--worker-jobs-dir")
        })?;
        let name = NAME.pick(flags.worker_name.as_deref(), world)?;
        let worker = ID.pick(None, world)?;
        for (text, setting) in [(&name, &NAME), (&worker, &ID)] {
            if let Some(fault) = text.as_deref().and_then(text_fault) {
                return Err(
                    Error::new(ErrorId::BadSetting, fault).about(setting.variables.join(" "))
                );
            }
        }
        let settings = Settings::of_system(
            flags,
            world,
            SystemSettings {
                hub_url: &URL,
                hub_url_in_file: None,
                file: jobs_dir.join(ID_FILE),
                folder: jobs_dir.clone(),
                secrets: &[SECRET],
                secret_in_file: None,
            },
        )?;
        Ok(Self {
            jobs_dir: world.path(&jobs_dir),
            flags,
            world,
            settings,
            name,
            worker,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.jobs_dir.join(name)
    }

    fn file(&self, name: &str) -> Result<Option<String>> {
        let path = self.path(name);
        match read::own_text(&path) {
            Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(None),
            Err(error) => Err(unreadable(&path, &error)),
        }
    }

    /// A broken journal is none: it is only a note until something is confirmed, and then whole.
    fn journal(&self) -> Result<Option<Journal>> {
        let text = self.file(JOURNAL)?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    fn standing(&self) -> Result<Standing> {
        let is_confirmed = |journal: &Journal| journal.confirmed.is_some();
        match (self.file(ID_FILE)?, self.file(KEY_FILE)?) {
            _ if self.journal()?.as_ref().is_some_and(is_confirmed) => Ok(Standing::Unfinished),
            (Some(worker), Some(_)) => Ok(Standing::Enrolled(worker)),
            (None, None) => Ok(Standing::New),
            (id, _) => {
                let (there, missing) = match id {
                    Some(_) => (ID_FILE, KEY_FILE),
                    None => (KEY_FILE, ID_FILE),
                };
                let (id, key) = (self.path(ID_FILE), self.path(KEY_FILE));
                Err(Error::new(
                    ErrorId::CredentialIncomplete,
                    format!("{there} is there, and {missing}, which belongs to it, is not"),
                )
                .about(self.jobs_dir.display())
                .mend(format!(
                    "put it back; or enrol anew, under a name that the server does not know: rm -f {} {}",
                    id.display(),
                    key.display()
                )))
            }
        }
    }

    fn name(&self) -> Result<&str> {
        self.name.as_deref().ok_or_else(|| {
            Error::new(
                ErrorId::BadSetting,
                "a worker needs a unique name, and none is given",
            )
            .about("the worker's name")
            .mend("set LYFTDATA_WORKER_NAME, or give --worker-name NAME")
        })
    }

    fn owner(&self) -> Result<Owner> {
        Owner::of(&self.jobs_dir).map_err(|error| self.fault(&error))
    }

    fn fault(&self, error: &std::io::Error) -> Error {
        unwritable(ErrorId::StateUnwritable, &self.jobs_dir, error)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        atomic::write(&self.path(name), bytes, 0o600, self.owner()?)
            .map_err(|error| self.fault(&error))
    }

    fn note(&self, journal: &Journal) -> Result<()> {
        let bytes = Zeroizing::new(serde_json::to_vec(journal).unwrap_or_default());
        self.put(JOURNAL, &bytes)
    }

    fn forget(&self) -> Result<()> {
        atomic::remove(&self.path(JOURNAL)).map_err(|error| self.fault(&error))
    }

    /// Puts what the server has confirmed into its files.
    fn finish(&self, worker: &Worker) -> Result<()> {
        self.put(KEY_FILE, worker.api_key.as_bytes())?;
        self.put(ID_FILE, worker.id.as_bytes())?;
        self.forget()
    }

    fn has_leftovers(&self) -> bool {
        let names = std::fs::read_dir(&self.jobs_dir).into_iter().flatten();
        let mut names = names.flatten().map(|entry| entry.file_name());
        names.any(|name| {
            let name = name.to_string_lossy();
            name == JOURNAL || atomic::is_temporary(&name)
        })
    }

    fn held(&self, worker: &str, name: Option<&str>) -> Vec<Held> {
        [
            ("worker", "worker", json!(worker)),
            ("name", "name", json!(name)),
            ("jobs dir", "jobs_dir", json!(self.jobs_dir)),
        ]
        .map(|(label, key, value)| Held { label, key, value })
        .into()
    }
}

impl Dialect for Lyftdata<'_> {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn takes_secret(&self, force: bool) -> Result<bool> {
        Ok(force || matches!(self.standing()?, Standing::New))
    }

    fn read_secret(&self, text: &str, source: &TokenSource) -> Result<Token> {
        Token::shared(text, source)
    }

    fn plan(&self, secret: Option<Kind>, force: bool) -> Result<Plan> {
        match self.standing()? {
            Standing::Unfinished => return Ok(Plan::Repair),
            Standing::Enrolled(_) if !force && self.has_leftovers() => return Ok(Plan::Repair),
            Standing::Enrolled(_) if !force => return Ok(Plan::Nothing),
            Standing::Enrolled(_) | Standing::New => {}
        }
        self.name()?;
        if secret.is_none() {
            return Err(missing());
        }
        Ok(Plan::Ask)
    }

    fn folders(&self) -> Vec<Folder> {
        vec![Folder {
            name: "jobs directory",
            path: self.jobs_dir.clone(),
            mode: 0o700,
            fault: ErrorId::StateUnwritable,
        }]
    }

    fn lock_name(&self) -> &'static str {
        LOCK
    }

    fn settle(&mut self, _: Limit) -> Later<'_, ()> {
        Box::pin(async {
            atomic::sweep(&self.jobs_dir).map_err(|error| self.fault(&error))?;
            match self.journal()?.and_then(|journal| journal.confirmed) {
                Some(worker) => {
                    tracing::info!("ending what an interrupted run began");
                    self.finish(&worker)
                }
                None => Ok(()),
            }
        })
    }

    fn prove_writable(&self) -> Result<()> {
        atomic::prove(&self.jobs_dir, 8 * 1024, self.owner()?).map_err(|error| self.fault(&error))
    }

    fn exchange<'a>(
        &'a self,
        secret: Option<&'a Token>,
        _: bool,
        _: Limit,
    ) -> Later<'a, Box<dyn Exchange + 'a>> {
        Box::pin(async move {
            tracing::info!("worker is using auto enrollment");
            let (name, secret) = (self.name()?, secret.ok_or_else(missing)?.secret());
            let client = Client::new(&self.settings)?;
            let lost = self.journal()?.filter(|journal| journal.name == name);
            if lost.is_none() {
                self.note(&Journal {
                    name: name.into(),
                    asked_at: humantime::format_rfc3339_seconds(self.world.now()).to_string(),
                    confirmed: None,
                })?;
            }
            Ok(Box::new(Asking {
                host: self,
                client,
                name,
                secret,
                lost: lost.map(|journal| journal.asked_at),
                confirmed: None,
            }) as Box<dyn Exchange + 'a>)
        })
    }

    fn repair(&self) -> Result<bool> {
        // What was confirmed is in its files by now; a note of a request is of no more use.
        let is_left = self.path(JOURNAL).exists();
        self.forget()?;
        Ok(is_left)
    }

    fn enrolled(&self) -> Result<Enrolment> {
        let Standing::Enrolled(worker) = self.standing()? else {
            return Err(missing());
        };
        Ok(Enrolment {
            done: Done::AlreadyEnrolled,
            hub_url: self.settings.hub_url.value.to_string(),
            hostname: None,
            changed: false,
            holds: self.held(&worker, self.name.as_deref()),
            scrubbed: Vec::new(),
        })
    }

    fn facts(&self, _: &HostFacts) -> Vec<(&'static str, Value)> {
        let mut facts = vec![("name", json!(self.name))];
        if let Some(worker) = &self.worker {
            facts.push(("worker", json!(worker)));
        }
        facts
    }

    fn preview(
        &self,
        secret: Option<Kind>,
        force: bool,
        facts: &HostFacts,
    ) -> Result<Option<Preview>> {
        // One without a secret has yet to be given it.
        if Dialect::plan(self, secret.or(Some(Kind::Enrolment)), force)? != Plan::Ask {
            return Ok(None);
        }
        let body = self.facts(facts).into_iter();
        Ok(Some(Preview {
            url: self.settings.hub_url.value.join(ENROLL).to_string(),
            path: ENROLL,
            body: body.map(|(name, value)| (name.to_owned(), value)).collect(),
            rows: vec![
                ("worker", self.name()?.to_owned()),
                (
                    "proof",
                    "HMAC-SHA-256 of the secret over a nonce and the name".into(),
                ),
                ("jobs dir", self.jobs_dir.display().to_string()),
            ],
            json: json!({"worker_name": self.name, "jobs_dir": self.jobs_dir}),
        }))
    }

    fn status(&self) -> Result<Account> {
        let dir = self.jobs_dir.display().to_string();
        let hub = self.settings.hub_url.value.to_string();
        Ok(match self.standing()? {
            Standing::Enrolled(worker) => Account {
                text: format!(
                    "This host is enrolled at {hub} as a LyftData worker.\n{}",
                    rows(&[("worker", worker.clone()), ("jobs dir", dir)])
                ),
                json: json!({
                    "enrolled": true, "standing": "enrolled", "dialect": "lyftdata",
                    "hub_url": hub, "worker": worker, "jobs_dir": self.jobs_dir,
                }),
                exit_code: 0,
            },
            standing => {
                let (word, why) = match standing {
                    Standing::Unfinished => (
                        "unfinished",
                        "the server has confirmed it, and an interrupted run has not put all in place",
                    ),
                    _ => ("new", "there is no worker's id and no API key"),
                };
                Account {
                    text: format!(
                        "This host is not enrolled: {why}.\n{}To enrol it: {}\n",
                        rows(&[("jobs dir", dir)]),
                        "LYFTDATA_AUTO_ENROLLMENT_KEY=… monsys-agent enrol --dialect lyftdata"
                    ),
                    json: json!({
                        "enrolled": false, "standing": word, "dialect": "lyftdata",
                        "hub_url": hub, "jobs_dir": self.jobs_dir,
                    }),
                    exit_code: ErrorId::NotEnrolled.kind().exit_code(),
                }
            }
        })
    }

    fn checks(&self) -> Vec<Check> {
        let hub = &self.settings.hub_url.value;
        let name = match self.name() {
            Ok(name) => Check::good("settings", format!("worker {name} of {hub}")),
            Err(error) => Check::bad("settings", &error),
        };
        let identity = match self.standing() {
            Ok(Standing::Enrolled(worker)) => {
                Check::good("identity", format!("enrolled as worker {worker}"))
            }
            Ok(Standing::Unfinished) => Check::warning(
                "identity",
                "an interrupted run has not put all in place",
                "monsys-agent enrol --dialect lyftdata",
            ),
            Ok(Standing::New) => Check::good("identity", "this host is not enrolled yet"),
            Err(error) => Check::bad("identity", &error),
        };
        vec![name, identity]
    }

    fn without_secret(&self) -> Check {
        match self.standing() {
            Ok(Standing::New) => Check::bad("token", &missing()),
            Ok(_) => Check::good("token", "an enrolled worker needs none"),
            Err(_) => Check::skipped("token", "it is not known whether this host is enrolled"),
        }
    }

    /// The worker itself is `LyftData`'s own program; what this one does in its place is to enrol.
    fn serve(&self) -> Later<'_, ()> {
        Box::pin(async {
            let enrolment = enrolment::enrol(self.flags, false, self.world).await?;
            tracing::info!(
                "{}: the worker's id and API key are in {}",
                enrolment.done.word(),
                self.jobs_dir.display()
            );
            Ok(())
        })
    }
}

/// The question, ready to be asked.
struct Asking<'a> {
    host: &'a Lyftdata<'a>,
    client: Client,
    name: &'a str,
    secret: &'a Secret,
    /// When an earlier run asked for the very name, and did not come to note an answer.
    lost: Option<String>,
    confirmed: Option<Worker>,
}

#[derive(Serialize)]
struct EnrollBody<'a> {
    name: &'a str,
    nonce: String,
    hmac: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<&'a str>,
}

impl Exchange for Asking<'_> {
    fn client(&self) -> &Client {
        &self.client
    }

    fn url(&self) -> String {
        let hub = &self.host.settings.hub_url.value;
        hub.join(ENROLL).to_string()
    }

    fn request(&self, _: &HostFacts) -> Result<Request<'_>> {
        let mut nonce = [0_u8; 16];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_| Error::new(ErrorId::Internal, "the system gave no random bytes"))?;
        let nonce = hex(&nonce);
        let body = EnrollBody {
            hmac: proof(self.secret, &nonce, self.name),
            nonce,
            name: self.name,
            worker: self.host.worker.as_deref(),
        };
        Ok(Request {
            method: Method::POST,
            url: self.host.settings.hub_url.value.join(ENROLL),
            bearer: None,
            signature: None,
            body: serde_json::to_vec(&body).unwrap_or_default().into(),
        })
    }

    fn judge(&mut self, url: &str, sent: std::result::Result<Reply, SendError>) -> Outcome<()> {
        if let Some(error) = sent.as_ref().ok().and_then(|reply| self.told(reply)) {
            return Outcome::Stop(error.about(url));
        }
        let outcome = verdict::judge(url, sent, |reply| {
            self.confirmed = Some(accepted(reply, self.name)?);
            Ok(())
        });
        if matches!(outcome, Outcome::Wait { .. }) {
            let now = humantime::format_rfc3339_seconds(self.host.world.now());
            self.lost.get_or_insert_with(|| now.to_string());
        }
        outcome
    }

    fn refused(&mut self, error: Error, is_certain: bool) -> Error {
        // A no for certain, and none lost before: there is nothing to remember.
        if is_certain
            && self.lost.is_none()
            && let Err(fault) = self.host.forget()
        {
            tracing::warn!("{}: {}", fault.what(), fault.why());
        }
        error
    }

    fn keep(&mut self, facts: &HostFacts) -> Result<Kept> {
        let Some(worker) = self.confirmed.take() else {
            return Err(Error::new(ErrorId::Internal, "nothing was confirmed"));
        };
        self.host.note(&Journal {
            name: self.name.into(),
            asked_at: humantime::format_rfc3339_seconds(self.host.world.now()).to_string(),
            confirmed: Some(worker.clone()),
        })?;
        self.host.finish(&worker)?;
        Ok(Kept::Enrolled(Enrolment {
            done: Done::Enrolled,
            hub_url: self.host.settings.hub_url.value.to_string(),
            hostname: Some(facts.hostname.clone()),
            changed: true,
            holds: self.host.held(&worker.id, Some(&worker.name)),
            scrubbed: Vec::new(),
        }))
    }
}

impl Asking<'_> {
    /// The rows of `LyftData`'s troubleshooting table that come as an answer.
    fn told(&self, reply: &Reply) -> Option<Error> {
        match reply.status {
            400 if says(reply, "Community Edition") => Some(
                Error::new(
                    ErrorId::Refused,
                    "Community Edition only supports the built-in worker: the server is not licensed for external ones",
                )
                .mend("enrol at a licensed deployment; to a Community Edition, a worker is added with a manual API key"),
            ),
            401 => Some(
                Error::new(
                    ErrorId::Rejected,
                    "the server answered 401: this worker holds the wrong secret, or auto enrollment is not enabled (the server's log says `attempted auto enrollment, but secret was incorrect`)",
                )
                .mend("refresh LYFTDATA_AUTO_ENROLLMENT_KEY, and run the same command again; an admin sees what is enabled: GET /api/workers/auto-enrollment"),
            ),
            409 => Some(self.exists()),
            400 if says(reply, "already exists") => Some(self.exists()),
            _ => None,
        }
    }

    fn exists(&self) -> Error {
        let name = self.name;
        let why = match (&self.lost, &self.host.worker) {
            (Some(asked), _) => format!(
                "the requested worker already exists at the server: an answer to this very host was lost (asked for {name:?} at {asked}), and the server gives it only once"
            ),
            (None, Some(id)) => format!(
                "the requested worker ID {id}, or the name {name:?}, already exists at the server"
            ),
            (None, None) => {
                format!("a worker with the requested name {name:?} already exists at the server")
            }
        };
        let clear = match &self.host.worker {
            Some(_) => "clear LYFTDATA_WORKER_ID, or choose a different --worker-name",
            None => "choose a different --worker-name",
        };
        Error::new(ErrorId::Refused, why).mend(match self.lost {
            Some(_) => format!("an admin removes that worker, which has never worked (GET /api/workers shows it), and then: the same command again; or {clear}"),
            None => clear.into(),
        })
    }
}

fn says(reply: &Reply, text: &str) -> bool {
    reply
        .message()
        .is_some_and(|message| message.contains(text))
}

/// Reads a yes.
fn accepted(reply: &Reply, name: &str) -> std::result::Result<Worker, String> {
    if reply.media_type.as_deref() != Some("application/json") {
        return Err("the answer is not application/json (a proxy's page, or a web site?)".into());
    }
    let worker: Worker = serde_json::from_slice(&reply.body)
        .map_err(|_| "the answer lacks `worker`, `name` or `api_key`")?;
    if let Some(fault) = text_fault(&worker.id) {
        return Err(format!("the `worker` of the answer: {fault}"));
    }
    Secret::opaque(&worker.api_key)
        .map_err(|fault| format!("the `api_key` of the answer: {fault}"))?;
    if worker.name != name {
        return Err("the `name` of the answer is not the one that was asked for".into());
    }
    Ok(worker)
}

/// hex(HMAC-SHA-256(secret, nonce + "\n" + name)), the contract's section 7.
fn proof(secret: &Secret, nonce: &str, name: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
    hex(hmac::sign(&key, format!("{nonce}\n{name}").as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn text_fault(text: &str) -> Option<String> {
    if (1..=128).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
        return None;
    }
    Some("it has to be 1 to 128 characters, with no control character".into())
}

/// The exits of a worker that has nothing to begin with, as its troubleshooting table has them.
fn missing() -> Error {
    Error::new(
        ErrorId::TokenMissing,
        "this worker is not enrolled, and the shared secret is what admits it",
    )
    .mend("set LYFTDATA_AUTO_ENROLLMENT_KEY, or use --token-file PATH, --token-file - or --token-command CMD")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_the_contracts() {
        // printf '%s\n%s' 000102030405060708090a0b0c0d0e0f ingest-us-east-01 |
        //   openssl dgst -sha256 -hmac s3cret
        let Token::Enrolment(secret) = Token::shared(" s3cret\n", &"test").unwrap() else {
            panic!("another kind");
        };
        assert_eq!(
            proof(
                &secret,
                "000102030405060708090a0b0c0d0e0f",
                "ingest-us-east-01"
            ),
            "060e3dfb6032755ba9412857e31151c90caa855198419f5dbbb216452beda9a2"
        );
    }
}
