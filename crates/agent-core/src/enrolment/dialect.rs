//! The interface of a dialect: what the enrolment workflow requires of one enrolment system.
//!
//! A dialect's crate exports one [`Descriptor`], which the program lists, and implements [`Dialect`] and
//! [`Exchange`]. The workflow ([`crate::enrolment`]) knows none of them by name.

use std::path::PathBuf;
use std::pin::Pin;

use serde_json::Value;

use super::outcome::Enrolment;
use super::step_record::StepRecord;
use crate::check::Check;
use crate::environment::Environment;
use crate::error::{Error, ErrorId, Result};
use crate::facts::HostFacts;
use crate::flags::Flags;
use crate::hub::client::{Client, Reply, Request, SendError};
use crate::hub::response::Outcome;
use crate::hub::retry::Limit;
use crate::settings::{Setting, Settings};
use crate::store::access::{Access, Grant};
use crate::store::{atomic, safe_read, unwritable};
use crate::token::{Kind, Token};
use crate::token_source::TokenSource;

/// Name of the step's verdict in the folder of a dialect that has no state file of its own.
const STEP_RECORD: &str = ".monsys-step.json";

/// Reads the settings, and the host's state, of one dialect.
pub type Read = for<'a> fn(&'a Flags, &'a Environment) -> Result<Box<dyn Dialect + 'a>>;

/// One dialect as the program lists it.
pub struct Descriptor {
    /// The value of `--dialect` and `MONSYS_DIALECT`.
    pub name: &'static str,
    /// What the dialect enrols a host into, for `--help`.
    pub about: &'static str,
    /// The settings that only this dialect has.
    pub settings: &'static [&'static Setting],
    /// Flags that only this dialect has.
    pub flags: &'static [OwnFlag],
    /// Environment variables that hold a secret: no child process inherits them.
    pub secret_variables: &'static [&'static str],
    /// A flag of the dialect's own documentation that has a secret as its value, and the environment
    /// variable that takes the secret instead.
    pub secret_flag: Option<(&'static str, &'static str)>,
    /// The argument of `run` that selects this dialect, as its own documentation has it.
    pub run_argument: Option<&'static str>,
    /// Whether the environment holds what only hosts of this dialect have.
    pub is_meant: fn(&Environment) -> bool,
    /// Reads the host. Use [`Descriptor::open`].
    pub read: Read,
    /// Reads the host for its facts, without files that may not be read.
    pub read_for_facts: Read,
    /// Takes over the files of an older release, as root, before the privileged step.
    pub take_over: fn(&Flags, &Environment) -> Result<()>,
}

/// A flag that only one dialect has.
pub struct OwnFlag {
    /// The flag, with its dashes.
    pub flag: &'static str,
    /// Placeholder of the value in `--help`; `None` for a switch.
    pub value_name: Option<&'static str>,
    /// Help text.
    pub help: &'static str,
    /// Commands that take the flag.
    pub scope: FlagScope,
}

/// Commands that take a dialect's own flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagScope {
    /// Every command that enrols or reads the host.
    Everywhere,
    /// `run` and `prepare`.
    Service,
}

impl Descriptor {
    /// Returns a dialect without settings, flags or secrets of its own.
    #[must_use]
    pub const fn new(name: &'static str, about: &'static str, read: Read) -> Self {
        Self {
            name,
            about,
            settings: &[],
            flags: &[],
            secret_variables: &[],
            secret_flag: None,
            run_argument: None,
            is_meant: |_| false,
            read,
            read_for_facts: read,
            take_over: |_, _| Ok(()),
        }
    }

    /// Reads the settings and the host, and refuses folders of the host that others than root can write.
    ///
    /// # Errors
    /// Wrong settings, broken files of the host, and [`ErrorId::ForeignOwner`].
    pub fn open<'a>(
        &self,
        flags: &'a Flags,
        environment: &'a Environment,
    ) -> Result<Box<dyn Dialect + 'a>> {
        checked((self.read)(flags, environment)?, environment)
    }
}

/// Refuses a host with a folder of its own that others than root can write.
///
/// # Errors
/// [`ErrorId::ForeignOwner`].
pub fn checked<'a>(
    host: Box<dyn Dialect + 'a>,
    environment: &Environment,
) -> Result<Box<dyn Dialect + 'a>> {
    for folder in host.folders().iter().filter(|folder| !folder.is_foreign) {
        environment.refuse_foreign_folder(&folder.path)?;
    }
    Ok(host)
}

/// What takes its time, as a method of an object.
pub type FutureResult<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

/// One system as this run sees it: its settings, and what the host has of it on its disk.
///
/// The story calls these in the order in which they stand here.
pub trait Dialect {
    /// The settings that every system has.
    fn settings(&self) -> &Settings;

    /// Whether a run takes the secret that it was given, so that it has to be fetched.
    ///
    /// # Errors
    /// Broken files of the host.
    fn takes_secret(&self, force: bool) -> Result<bool>;

    /// Reads a secret as `source` gave it.
    ///
    /// # Errors
    /// What is wrong with it, without repeating it.
    fn read_secret(&self, text: &str, source: &TokenSource) -> Result<Token>;

    /// What a run comes to. `secret` is the kind of what it was given, if it was.
    ///
    /// # Errors
    /// Why there can be no run. Nothing on the host was touched.
    fn plan(&self, secret: Option<Kind>, force: bool) -> Result<Plan<'_>>;

    /// Folders that the run writes to, made when they are missing. The first one holds the lock.
    fn folders(&self) -> Vec<Folder>;

    /// Name of the lock in the first of the folders.
    fn lock_name(&self) -> &'static str;

    /// Under the lock: ends what an interrupted run left half done, and what nobody wanted.
    ///
    /// # Errors
    /// What cannot be written, and what the hub says, if it has to be asked.
    fn recover(&mut self, limit: Limit) -> FutureResult<'_, ()>;

    /// Proves, before a use is spent, that what will be written can be.
    ///
    /// # Errors
    /// [`ErrorId::ConfigUnwritable`], [`ErrorId::StateUnwritable`].
    fn prove_writable(&self) -> Result<()>;

    /// The host is enrolled already: writes what it lacks of its own files, and tells whether that
    /// was anything.
    ///
    /// # Errors
    /// What cannot be written.
    fn repair(&self) -> Result<bool>;

    /// Whether the host has a credential that a hub has confirmed.
    ///
    /// # Errors
    /// Broken files of the host.
    fn is_enrolled(&self) -> Result<bool> {
        Ok(!self.takes_secret(false)?)
    }

    /// The host as it is enrolled already.
    ///
    /// # Errors
    /// Broken files of the host, and [`ErrorId::NotEnrolled`].
    fn enrolled(&self) -> Result<Enrolment>;

    /// What this system is told of the host, field by field, in the order of its documents.
    fn facts(&self, facts: &HostFacts) -> Vec<(&'static str, Value)>;

    /// What a run would send and write: for `--dry-run`. `None` when it would send nothing.
    ///
    /// # Errors
    /// As [`Dialect::plan`].
    fn preview(
        &self,
        secret: Option<Kind>,
        force: bool,
        facts: &HostFacts,
    ) -> Result<Option<Preview>>;

    /// Where this host stands.
    ///
    /// # Errors
    /// Broken files of the host.
    fn status(&self) -> Result<StatusReport>;

    /// What `doctor` finds of this system on the host: its settings, and whose the credential is.
    fn checks(&self) -> Vec<Check>;

    /// What `doctor` says of the secret when none was given, or none is taken.
    fn without_secret(&self) -> Check;

    /// Files on this machine that the service reads, and that nobody else may.
    fn service_files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Files among [`Dialect::service_files`] that an operator changes: a change is a reason to try the
    /// step again at once.
    fn configuration_files(&self) -> Vec<PathBuf> {
        self.service_files()
    }

    /// What the service has to be told in its environment, beside which system it is, to find what
    /// this run knows.
    fn service_environment(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Whether this program is the system's service too, so that `install` has something to start.
    fn has_service(&self) -> bool {
        true
    }

    /// The privileged step before the service: enrols a host that is not enrolled yet and is told
    /// where a secret is to be had, and ends what was interrupted. Returns what has to be tried again
    /// later and does not keep the service from running. `is_service` when the service itself does
    /// it, and will do such things again by itself.
    ///
    /// # Errors
    /// Why the service cannot run.
    fn step(&self, is_service: bool) -> FutureResult<'_, Option<Error>> {
        let _ = is_service;
        Box::pin(async { Ok(None) })
    }

    /// Whether the service of a user who runs everything does the step in a process that ends with
    /// it, so that nothing of the secret stays in memory.
    fn steps_apart(&self) -> bool {
        true
    }

    /// What the last step came to, as the host's own state has it.
    fn step_record(&self) -> Option<StepRecord> {
        let folder = self.folders().into_iter().next()?;
        let bytes = safe_read::own(&folder.path.join(STEP_RECORD)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Writes what a step came to into the host's own state. `false` when the host has none yet.
    ///
    /// # Errors
    /// What cannot be written.
    fn save_step_record<'a>(&'a self, record: &'a StepRecord) -> FutureResult<'a, bool> {
        Box::pin(async move {
            let Some(folder) = self.folders().into_iter().next() else {
                return Ok(false);
            };
            if !folder.path.is_dir() {
                return Ok(false);
            }
            let path = folder.path.join(STEP_RECORD);
            let grant = self.access().shared();
            let bytes = serde_json::to_vec(record).unwrap_or_default();
            atomic::write(&path, &bytes, grant.mode, grant.owner)
                .map_err(|error| unwritable(folder.error_id, &path, &error))?;
            Ok(true)
        })
    }

    /// Who owns this host's files, and who reads them.
    fn access(&self) -> Access;

    /// The service, until it is told to stop.
    ///
    /// # Errors
    /// Why there is none, or what it ended with.
    fn serve(&self) -> FutureResult<'_, ()>;
}

/// An exchange that a [`Plan`] has decided on, and for which nothing is written yet.
pub trait Prepare<'a> {
    /// Puts on the disk what has to be there before the first request leaves.
    ///
    /// # Errors
    /// What cannot be written.
    fn prepare(
        self: Box<Self>,
        secret: Option<&'a Token>,
        limit: Limit,
    ) -> FutureResult<'a, Box<dyn Exchange + 'a>>;
}

/// One question to the hub, asked until it says yes or no.
pub trait Exchange {
    /// The client that asks it.
    fn client(&self) -> &Client;

    /// Where it is asked.
    fn url(&self) -> String;

    /// The request of one try. The facts are of this moment.
    ///
    /// # Errors
    /// What cannot be made.
    fn request(&self, facts: &HostFacts) -> Result<Request<'_>>;

    /// What one try came to. After a yes, what the answer brought is held for [`Exchange::persist`].
    fn classify(&mut self, url: &str, sent: std::result::Result<Reply, SendError>) -> Outcome<()>;

    /// The hub has said no, or nothing until the deadline; the error in the words of this question.
    /// `is_certain` when no answer to it can have been lost.
    fn refused(&mut self, error: Error, is_certain: bool) -> Error;

    /// Puts what the hub has confirmed into its sink.
    ///
    /// # Errors
    /// What cannot be written.
    fn persist(&mut self, facts: &HostFacts) -> Result<ExchangeStep>;
}

/// What follows when something was kept.
pub enum ExchangeStep {
    /// The host is enrolled.
    Enrolled(Enrolment),
    /// There is one more question.
    Continue,
}

/// What a run comes to. It is decided once, and carries what it was decided on.
pub enum Plan<'a> {
    /// Nothing has to be done: the host is enrolled, and has all of its files.
    Nothing,
    /// The host is enrolled, and lacks some of its files, or has some left over.
    Repair,
    /// The hub is asked.
    Exchange(Box<dyn Prepare<'a> + 'a>),
}

/// A folder that a run writes to.
pub struct Folder {
    /// What it is, for people.
    pub name: &'static str,
    /// Where it is, `--root` included.
    pub path: PathBuf,
    /// Owner and mode of one that is made.
    pub grant: Grant,
    /// The folder belongs to another program, whose user may write there. Nothing in it decides what
    /// root does.
    pub is_foreign: bool,
    /// What fails when it cannot be written.
    pub error_id: ErrorId,
}

/// What a run would send and write.
pub struct Preview {
    /// Where it would POST.
    pub url: String,
    /// Path of that.
    pub path: &'static str,
    /// What it would send, without secrets.
    pub body: Value,
    /// Rows for people.
    pub rows: Vec<(&'static str, String)>,
    /// Keys for programs.
    pub json: Value,
}

/// Where a host stands, told.
pub struct StatusReport {
    /// For people.
    pub text: String,
    /// For programs.
    pub json: Value,
    /// Exit code of `status`.
    pub exit_code: u8,
}
