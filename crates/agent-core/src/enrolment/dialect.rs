//! The interface of a dialect, the part of the enrolment workflow that differs between enrolment systems.
//!
//! A dialect's crate exports one [`Descriptor`], which the program lists, and implements [`Dialect`] and
//! [`Exchange`]. The workflow ([`crate::enrolment`]) knows none of them by name.

use std::path::{Path, PathBuf};
use std::sync::Once;

use serde_json::Value;

use super::outcome::Enrolment;
use super::step_record::StepRecord;
use crate::boxed::Boxed;
use crate::check::Check;
use crate::environment::Environment;
use crate::error::{Error, ErrorId, Result};
use crate::facts::HostFacts;
use crate::flags::Flags;
use crate::hub::client::{Client, Reply, Request, SendError};
use crate::hub::response::Outcome;
use crate::hub::retry::Limit;
use crate::settings::{Setting, Settings, table};
use crate::store::access::{Access, Grant};
use crate::store::proof::Target;
use crate::store::{atomic, safe_read, unwritable};
use crate::token::{Kind, Token};
use crate::token_source::TokenSource;

/// Name of the step's record in the folder of a dialect that has no state file.
const STEP_RECORD: &str = ".monsys-step.json";

/// Reads the settings, and the host's state, of one dialect.
pub type ReadHost = for<'a> fn(&'a Flags, &'a Environment) -> Result<Box<dyn Dialect + 'a>>;

/// The settings that only hosts of a monsys hub have.
pub static OF_MONSYS: &[&Setting] = &[
    &table::TAGS,
    &table::ROLE,
    &table::CONFIG,
    &table::STATE_DIR,
    &table::READMISSION_INTERVAL,
];

/// One dialect as the program lists it.
pub struct Descriptor {
    /// The value of `--dialect` and `MONSYS_DIALECT`.
    pub name: &'static str,
    /// The system that the dialect enrols a host into, for `--help`.
    pub about: &'static str,
    /// The settings that only this dialect has.
    pub settings: &'static [&'static Setting],
    /// Settings of the program that the dialect has no use for, unless `settings` has their flag or variable.
    pub ignored: &'static [&'static Setting],
    /// Flags that only this dialect has.
    pub flags: &'static [OwnFlag],
    /// Environment variables that hold a secret. No child process inherits them.
    pub secret_variables: &'static [&'static str],
    /// A flag of the dialect's own documentation that has a secret as its value, and the environment
    /// variable that takes the secret instead.
    pub secret_flag: Option<(&'static str, &'static str)>,
    /// The argument of `run` that selects this dialect, as its own documentation has it.
    pub run_argument: Option<&'static str>,
    /// Returns whether the environment has variables that only hosts of this dialect have.
    pub is_meant: fn(&Environment) -> bool,
    /// Reads the host. Use [`Descriptor::open`].
    pub read: ReadHost,
    /// Reads the host for its facts, without the files that this user may not read.
    pub read_for_facts: ReadHost,
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
    pub const fn new(name: &'static str, about: &'static str, read: ReadHost) -> Self {
        Self {
            name,
            about,
            settings: &[],
            ignored: OF_MONSYS,
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
    /// Wrong settings, flags that the dialect ignores, broken files of the host, and [`ErrorId::ForeignOwner`].
    pub fn open<'a>(
        &self,
        flags: &'a Flags,
        environment: &'a Environment,
    ) -> Result<Box<dyn Dialect + 'a>> {
        self.refuse_ignored(flags, environment)?;
        checked((self.read)(flags, environment)?, environment)
    }

    /// Refuses a flag that the dialect ignores. A variable may be for other runs, so it is only warned of, once.
    ///
    /// # Errors
    /// [`ErrorId::BadArguments`] with the flag and the dialect.
    pub fn refuse_ignored(&self, flags: &Flags, environment: &Environment) -> Result<()> {
        static WARNED: Once = Once::new();
        let own_flags = || self.settings.iter().filter_map(|setting| setting.flag);
        let cause = || format!("the dialect {} has no such setting", self.name);
        for setting in self.ignored {
            if let Some(flag) = setting.flag.and_then(|flag| flags.given(flag))
                && !own_flags().any(|own| own == flag)
            {
                let own: Vec<&str> = own_flags().collect();
                return Err(Error::new(ErrorId::BadArguments, cause())
                    .about(flag)
                    .hint(format!(
                        "leave it out; the settings of that dialect are {}",
                        own.join(", ")
                    )));
            }
        }
        let variables = self.ignored.iter().flat_map(|setting| setting.variables);
        let set = variables.filter(|name| environment.env(name).is_some());
        let is_own = |name: &&str| self.settings.iter().any(|own| own.variables.contains(name));
        WARNED.call_once(|| {
            for name in set.filter(|name| !is_own(name)) {
                tracing::warn!("{name} is ignored: {}", cause());
            }
        });
        Ok(())
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

/// Returns the record of the last step from the folder of a dialect that has no state file.
#[must_use]
pub fn step_record_in(folder: &Path) -> Option<StepRecord> {
    let bytes = safe_read::own(&folder.join(STEP_RECORD)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The future that a method of a trait object returns.
pub type FutureResult<'a, T> = Boxed<'a, Result<T>>;

/// A dialect in one run: its settings, and its files on the host.
///
/// The workflow calls the methods in this order.
pub trait Dialect {
    /// Returns the settings that all dialects share.
    fn settings(&self) -> &Settings;

    /// Returns whether a run needs its secret, so that the secret has to be fetched.
    ///
    /// # Errors
    /// Broken files of the host.
    fn takes_secret(&self, force: bool) -> Result<bool>;

    /// Parses the text of a secret from `source`.
    ///
    /// # Errors
    /// The reason why the secret is not valid, without repeating the secret.
    fn read_secret(&self, text: &str, source: &TokenSource) -> Result<Token>;

    /// Decides what a run does. `secret` is the kind of the run's secret, if the run has one.
    ///
    /// # Errors
    /// The reason why a run is not possible. Nothing on the host is changed.
    fn plan(&self, secret: Option<Kind>, force: bool) -> Result<Plan<'_>>;

    /// Decides how the host returns to a hub that has forgotten it. The caller has the lock. Returns `None` when
    /// the host cannot return that way.
    ///
    /// # Errors
    /// Broken files of the host.
    fn plan_return(&self, way: WayBack) -> Result<Option<Box<dyn Prepare<'_> + '_>>> {
        let _ = way;
        Ok(None)
    }

    /// Returns the folders that the run writes to. A missing folder is created. The first folder holds the lock.
    fn folders(&self) -> Vec<Folder>;

    /// Returns the name of the lock in the first folder.
    fn lock_name(&self) -> &'static str;

    /// Completes or rolls back an interrupted run. The caller has the lock.
    ///
    /// # Errors
    /// Files that cannot be written, and the hub's response, if a request is necessary.
    fn recover(&mut self, limit: Limit) -> FutureResult<'_, ()>;

    /// Returns the files that a run writes after the hub has accepted its request.
    ///
    /// # Errors
    /// Broken files of the host.
    fn targets(&self) -> Result<Vec<Target>>;

    /// Proves that all targets can be written, before a use of the secret is spent.
    ///
    /// # Errors
    /// The error of the first target that cannot be written, with exit code 73.
    fn prove_writable(&self) -> Result<()>;

    /// Writes the missing files of a host that is enrolled already. Returns whether a file was written.
    ///
    /// # Errors
    /// Files that cannot be written.
    fn repair(&self) -> Result<bool>;

    /// Returns whether the host has a credential that a hub has confirmed.
    ///
    /// # Errors
    /// Broken files of the host.
    fn is_enrolled(&self) -> Result<bool> {
        Ok(!self.takes_secret(false)?)
    }

    /// Returns whether nothing on this host asks for an enrolment: the host has no identity, no credential, no
    /// interrupted run and no source of a secret. A service that does not run has not failed then.
    fn is_untouched(&self) -> bool {
        false
    }

    /// Returns the result for a host that is enrolled already.
    ///
    /// # Errors
    /// Broken files of the host, and [`ErrorId::NotEnrolled`].
    fn enrolled(&self) -> Result<Enrolment>;

    /// Returns the facts that the dialect sends, field by field, in the order of its documentation.
    fn facts(&self, facts: &HostFacts) -> Vec<(&'static str, Value)>;

    /// Returns the request and the files of a run, for `--dry-run`. Returns `None` when a run would send
    /// nothing.
    ///
    /// # Errors
    /// As [`Dialect::plan`].
    fn preview(
        &self,
        secret: Option<Kind>,
        force: bool,
        facts: &HostFacts,
    ) -> Result<Option<Preview>>;

    /// Returns the state of this host, for `status`.
    ///
    /// # Errors
    /// Broken files of the host.
    fn status(&self) -> Result<StatusReport>;

    /// Asks the hub whether it accepts this host's own credential. Returns `false` when the host has none, or the
    /// dialect's hub has no call for that.
    ///
    /// # Errors
    /// The hub's rejection, and a hub that does not answer.
    fn ask_hub(&self) -> FutureResult<'_, bool> {
        Box::pin(async { Ok(false) })
    }

    /// Returns whether a hub is set. Without one, the settings hold a placeholder, which no run connects to.
    fn has_hub(&self) -> bool {
        true
    }

    /// Returns the checks of `doctor` for this dialect: its settings, and the owner of the credential.
    fn checks(&self) -> Vec<Check>;

    /// Returns the check of `doctor` for a run without a secret.
    fn without_secret(&self) -> Check;

    /// Returns the files on this machine that only the service may read.
    fn service_files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Returns the files among [`Dialect::service_files`] that an operator changes. After a change, the step is
    /// tried again at once.
    fn configuration_files(&self) -> Vec<PathBuf> {
        self.service_files()
    }

    /// Returns the environment variables that the service needs, besides the name of the dialect, to read the
    /// same settings as this run.
    fn service_environment(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Returns whether this program is also the dialect's service, which `install` starts.
    fn has_service(&self) -> bool {
        true
    }

    /// Runs the privileged step before the service: enrols a host that is not enrolled and has a source of a
    /// secret, and completes an interrupted run. Returns an error that has to be tried again later and does not
    /// prevent the service from running. `is_service` is true when the service itself runs the step, and later
    /// tries again.
    ///
    /// # Errors
    /// The reason why the service cannot run.
    fn step(&self, is_service: bool) -> FutureResult<'_, Option<Error>> {
        let _ = is_service;
        Box::pin(async { Ok(None) })
    }

    /// Returns whether a service without root runs the step in a separate process, so that the secret does not
    /// stay in memory.
    fn steps_apart(&self) -> bool {
        true
    }

    /// Returns the record of the last step from the host's own state.
    fn step_record(&self) -> Option<StepRecord> {
        step_record_in(&self.folders().into_iter().next()?.path)
    }

    /// Writes the record of a step into the host's own state. Returns `false` when the host has no state yet.
    ///
    /// # Errors
    /// Files that cannot be written.
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

    /// Returns the owner and the readers of this host's files.
    fn access(&self) -> Access;

    /// Runs the service until a signal stops it.
    ///
    /// # Errors
    /// The reason why the service cannot run, or the error that it ended with.
    fn serve(&self) -> FutureResult<'_, ()>;
}

/// An exchange that a [`Plan`] requires, and for which no file is written yet.
pub trait Prepare<'a> {
    /// Writes the files that have to exist before the first request is sent.
    ///
    /// # Errors
    /// Files that cannot be written.
    fn prepare(
        self: Box<Self>,
        secret: Option<&'a Token>,
        limit: Limit,
    ) -> FutureResult<'a, Box<dyn Exchange + 'a>>;
}

/// An exchange with the hub: one or more requests, each sent until the hub accepts or rejects it.
pub trait Exchange {
    /// Returns the client that sends the request.
    fn client(&self) -> &Client;

    /// Returns the URL of the request.
    fn url(&self) -> String;

    /// Builds the request of one try, with the facts of this moment.
    ///
    /// # Errors
    /// The reason why the request cannot be built.
    fn request(&self, facts: &HostFacts) -> Result<Request<'_>>;

    /// Classifies the response of one try. The content of an accepted response stays in memory for
    /// [`Exchange::persist`].
    fn classify(&mut self, url: &str, sent: std::result::Result<Reply, SendError>) -> Outcome<()>;

    /// Adapts the error of a rejected request, or of one without a response until the deadline. `is_certain` is
    /// true when no response to the request can have been lost.
    fn refused(&mut self, error: Error, is_certain: bool) -> Error;

    /// Stores the result that the hub has confirmed.
    ///
    /// # Errors
    /// Files that cannot be written.
    fn persist(&mut self, facts: &HostFacts) -> Result<ExchangeStep>;
}

/// The next step of an exchange after a result was stored.
pub enum ExchangeStep {
    /// The host is enrolled.
    Enrolled(Enrolment),
    /// The exchange has another request.
    Continue,
}

/// The decision about a run, with the data that it depends on.
pub enum Plan<'a> {
    /// The host is enrolled and has all of its files: no change is necessary.
    Nothing,
    /// The host is enrolled, and some of its files are missing or obsolete.
    Repair,
    /// The host is enrolled as the settings say, and the hub confirms that.
    Confirm(Box<dyn Prepare<'a> + 'a>),
    /// A request to the hub is necessary.
    Exchange(Box<dyn Prepare<'a> + 'a>),
}

/// A way back to a hub that has forgotten this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayBack {
    /// By the receipt of the hub.
    Receipt,
    /// By the secret of this run.
    Secret(Kind),
}

/// A folder that a run writes to.
pub struct Folder {
    /// The folder's name for people.
    pub name: &'static str,
    /// The folder's path, `--root` included.
    pub path: PathBuf,
    /// Owner and mode of a folder that is created.
    pub grant: Grant,
    /// The folder belongs to another program, whose user may write there. Root obeys no file in it.
    pub is_foreign: bool,
    /// The error when the folder cannot be written.
    pub error_id: ErrorId,
}

/// The request and the files of a run that is only previewed.
pub struct Preview {
    /// URL of the POST request.
    pub url: String,
    /// Path of the URL.
    pub path: &'static str,
    /// True when the run would change the host, or its data at the hub; false for a mere confirmation.
    pub is_change: bool,
    /// Body of the request, without secrets.
    pub body: Value,
    /// Rows for people.
    pub rows: Vec<(&'static str, String)>,
    /// Keys for programs.
    pub json: Value,
}

/// The state of a host, as `status` prints it.
pub struct StatusReport {
    /// Text for people.
    pub text: String,
    /// JSON for programs.
    pub json: Value,
    /// Exit code of `status`.
    pub exit_code: u8,
}
