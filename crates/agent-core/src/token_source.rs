//! The source of the token. The token is fetched only when an exchange needs it.

mod command;

use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use secrecy::ExposeSecret;
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use crate::blocking;
use crate::clock;
use crate::environment::{Environment, SECRET_VARIABLE};
use crate::error::{Error, ErrorId, Result};
use crate::flags::Flags;
use crate::plain::{given, refuse_control};
use crate::sourced::Source;
use crate::store;
use crate::store::agent_toml::FileSettings;
use crate::token::Secret;
use command::CommandFailure;

/// Limit for reading a token, in bytes. A longer text is refused as malformed, without reading all of it.
const READ_LIMIT: u64 = 4096;
/// Time limit of one run of a command, so that one that hangs leaves time for another.
pub const ONE_RUN: Duration = Duration::from_mins(2);
/// Time limit for reading a token that is not needed.
const PATIENCE: Duration = Duration::from_secs(1);
/// Name of the systemd credential (`LoadCredential=monsys-token:…`).
const CREDENTIAL: &str = "monsys-token";

/// Folder of systemd's credentials for the system itself (systemd.exec(5)), which only root can read.
const SYSTEM_CREDENTIALS: &str = "/run/credentials/@system";

/// A source of a token.
#[derive(Clone, Debug)]
pub enum TokenSource {
    /// An environment variable, such as `MONSYS_TOKEN`.
    Variable(&'static str),
    /// A dialect's own file, from which the token was read together with the settings.
    Value(Secret, Source),
    /// A file, from a flag, a variable, or a key of agent.toml.
    File(PathBuf, Source),
    /// Standard input.
    Stdin,
    /// Output of a command.
    Command(String, Source),
    /// The systemd credential `monsys-token`.
    Credential(PathBuf),
}

impl TokenSource {
    /// Returns the first source that is set: flags, environment, systemd credential, `agent.toml`.
    pub fn resolve(
        flags: &Flags,
        environment: &Environment,
        keys: &FileSettings,
        config_path: &Path,
    ) -> Result<Option<Self>> {
        if let Some(explicit) = Self::explicit(flags, environment, &[])? {
            return Ok(Some(explicit));
        }
        let key = |name| Source::Key(name, config_path.into());
        if let Some(path) = not_empty(keys.token_file.as_ref()) {
            refuse_control(&path, &key("token_file"))?;
            return Ok(Some(Self::File(
                environment.resolved_path(path),
                key("token_file"),
            )));
        }
        let command = not_empty(keys.token_command.as_ref());
        Ok(command.map(|command| Self::Command(command, key("token_command"))))
    }

    /// Returns the first source that is set for this run: flags, environment (`variables`, and then
    /// `MONSYS_TOKEN`), systemd credential.
    pub fn explicit(
        flags: &Flags,
        environment: &Environment,
        variables: &[&'static str],
    ) -> Result<Option<Self>> {
        match (
            not_empty(flags.token_file.as_ref()),
            not_empty(flags.token_command.as_ref()),
        ) {
            (Some(_), Some(_)) => {
                return Err(Error::new(
                    ErrorId::BadArguments,
                    "--token-file and --token-command are both set",
                )
                .hint("use one of them"));
            }
            (Some(path), None) if path == "-" => return Ok(Some(Self::Stdin)),
            (Some(path), None) => {
                let source = Source::Flag("--token-file");
                refuse_control(&path, &source)?;
                return Ok(Some(Self::File(path.into(), source)));
            }
            (None, Some(command)) => {
                let source = Source::Flag("--token-command");
                return Ok(Some(Self::Command(command, source)));
            }
            (None, None) => {}
        }
        let mut variables = variables.iter().chain([&SECRET_VARIABLE]);
        if let Some(name) = variables.find(|name| environment.secret(name).is_some()) {
            return Ok(Some(Self::Variable(name)));
        }
        if let Some(path) = environment.env("MONSYS_TOKEN_FILE") {
            let source = Source::Variable("MONSYS_TOKEN_FILE");
            refuse_control(path, &source)?;
            return Ok(Some(Self::File(path.into(), source)));
        }
        let folder = environment.env("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        if let Some(folder) = &folder {
            refuse_control(folder, &Source::Variable("CREDENTIALS_DIRECTORY"))?;
        }
        // The privileged step may not see the unit's credentials, but root sees the system's.
        let folders = folder
            .into_iter()
            .chain([environment.path(SYSTEM_CREDENTIALS)]);
        let mut paths = folders.map(|folder| folder.join(CREDENTIAL));
        Ok(paths.find(|path| path.exists()).map(Self::Credential))
    }

    /// Returns whether the source is set for this run, and not in agent.toml.
    #[must_use]
    pub fn is_explicit(&self) -> bool {
        match self {
            Self::File(_, source) | Self::Command(_, source) => source.is_explicit(),
            Self::Value(..) => false,
            Self::Variable(_) | Self::Stdin | Self::Credential(_) => true,
        }
    }

    /// Fetches the text of the token once, until `deadline` at the latest. A command has `one_run`.
    ///
    /// # Errors
    /// [`ErrorId::Unreadable`], [`ErrorId::TokenCommandFailed`], [`ErrorId::TokenMissing`] or
    /// [`ErrorId::TokenMalformed`].
    pub async fn fetch(
        &self,
        one_run: Duration,
        environment: &Environment,
        deadline: Instant,
    ) -> Result<Zeroizing<String>, FetchError> {
        let bytes = match self {
            Self::Value(secret, _) => Zeroizing::new(secret.expose_secret().as_bytes().to_vec()),
            Self::Variable(name) => Zeroizing::new(
                environment
                    .secret(name)
                    .map(|secret| secret.expose_secret().as_bytes().to_vec())
                    .unwrap_or_default(),
            ),
            Self::Stdin => {
                tracing::info!("reading the token from standard input");
                let stdin = environment.stdin();
                self.read(deadline, move || {
                    let mut stdin = stdin.lock().unwrap_or_else(PoisonError::into_inner);
                    read_all(&mut *stdin)
                })
                .await?
            }
            Self::File(path, source) => {
                let is_key = matches!(source, Source::Key(..));
                if is_key {
                    environment.refuse_foreign_file(path)?;
                }
                let path = path.clone();
                self.read(deadline, move || read_file(&path, is_key))
                    .await?
            }
            Self::Credential(path) => {
                let path = path.clone();
                self.read(deadline, move || read_file(&path, false)).await?
            }
            Self::Command(command, source) => {
                refuse_foreign(source, environment)?;
                tracing::info!("running the token command");
                let end = clock::after(Instant::now(), one_run);
                command::run(command, environment, end.min(deadline))
                    .await
                    .map_err(|failure| self.command_error(failure, end < deadline))?
            }
        };
        let text = std::str::from_utf8(&bytes).map_err(|_| {
            self.not_a_token(Error::new(ErrorId::TokenMalformed, "it is not UTF-8").about(self))
        })?;
        if text.trim().is_empty() {
            let (id, cause, may_recover) = match self {
                Self::Command(..) => (ErrorId::TokenCommandFailed, "it printed nothing", true),
                // A pipe that was read has nothing more.
                Self::File(path, _) => (ErrorId::TokenMissing, "it is empty", path.is_file()),
                _ => (ErrorId::TokenMissing, "it is empty", false),
            };
            let error = Error::new(id, cause).about(self);
            return Err(FetchError { error, may_recover });
        }
        Ok(Zeroizing::new(text.to_owned()))
    }

    /// Returns the failure of a fetch whose text is not a token. A command may print the page of a proxy, or an
    /// error, and later the token. A file has what somebody has put there.
    #[must_use]
    pub fn not_a_token(&self, error: Error) -> FetchError {
        FetchError {
            error,
            may_recover: matches!(self, Self::Command(..)),
        }
    }

    fn command_error(&self, failure: CommandFailure, is_one_run: bool) -> FetchError {
        let error = |cause: String| Error::new(ErrorId::TokenCommandFailed, cause).about(self);
        match failure {
            CommandFailure::NotStarted(cause) => error(cause).into(),
            CommandFailure::NoProgram(cause) => FetchError::from(error(cause).hint(
                "install the program that the command names, or write its complete path: 127 means that it was not found, and 126 that it cannot be executed",
            )),
            CommandFailure::Failed(cause) => FetchError {
                error: error(cause),
                may_recover: true,
            },
            CommandFailure::TimedOut => FetchError {
                error: error(if is_one_run {
                    format!(
                        "it did not end within {}",
                        humantime::format_duration(ONE_RUN)
                    )
                } else {
                    "it did not end before the deadline (--wait)".into()
                }),
                may_recover: true,
            },
        }
    }
}

/// A fetch that failed.
#[derive(Debug)]
pub struct FetchError {
    /// The failure.
    pub error: Error,
    /// A later try may succeed.
    pub may_recover: bool,
}

impl From<Error> for FetchError {
    fn from(error: Error) -> Self {
        Self {
            error,
            may_recover: false,
        }
    }
}

impl TokenSource {
    /// Reads standard input when the token is not needed. Without a reader, the writer would get a broken pipe,
    /// and some writers, such as Ansible, would report that as a failure of the agent.
    pub async fn pass_over(&self, environment: &Environment) {
        if !matches!(self, Self::Stdin) {
            return;
        }
        let stdin = environment.stdin();
        let read = blocking::run(move || {
            let mut stdin = stdin.lock().unwrap_or_else(PoisonError::into_inner);
            read_all(&mut *stdin).is_ok()
        });
        // A writer may neither write nor close the pipe, so there is a time limit.
        drop(tokio::time::timeout(PATIENCE, read).await);
    }

    /// Reads in a separate thread until `deadline`, since a pipe may stay open without data.
    async fn read(
        &self,
        deadline: Instant,
        read: impl FnOnce() -> io::Result<Zeroizing<Vec<u8>>> + Send + 'static,
    ) -> Result<Zeroizing<Vec<u8>>, FetchError> {
        let (cause, is_missing) = match timeout_at(deadline, blocking::run(read)).await {
            Ok(Ok(Ok(bytes))) => return Ok(bytes),
            Ok(Ok(Err(error)) | Err(error)) => {
                (error.to_string(), error.kind() == io::ErrorKind::NotFound)
            }
            Err(_) => ("it did not end before the deadline (--wait)".into(), false),
        };
        Err(FetchError {
            error: Error::new(ErrorId::Unreadable, cause).about(self),
            may_recover: is_missing && matches!(self, Self::File(..)),
        })
    }
}

impl fmt::Display for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => f.write_str(name),
            Self::File(path, source) => write!(f, "{source} {}", path.display()),
            Self::Stdin => f.write_str("--token-file - (standard input)"),
            Self::Command(_, source) | Self::Value(_, source) => write!(f, "{source}"),
            Self::Credential(path) => {
                write!(f, "systemd credential {CREDENTIAL} ({})", path.display())
            }
        }
    }
}

fn not_empty(value: Option<&String>) -> Option<String> {
    given(value.map(String::as_str)).map(str::to_owned)
}

/// Reads a token file. A file that a flag or variable names may be a pipe or a terminal; a file that a key of
/// agent.toml names must be a regular file.
fn read_file(path: &Path, is_key: bool) -> io::Result<Zeroizing<Vec<u8>>> {
    let is_regular = std::fs::metadata(path)?.is_file();
    if is_key && !is_regular {
        return Err(io::Error::other("it is not a regular file"));
    }
    if !is_regular {
        tracing::info!("reading the token from {}", path.display());
    }
    // The file may have been replaced by a pipe since the check.
    let flags = if is_key {
        OFlag::O_RDONLY | OFlag::O_NONBLOCK
    } else {
        OFlag::O_RDONLY
    };
    let file = store::open(path, flags, Mode::empty())?;
    let metadata = file.metadata()?;
    let mode = metadata.mode();
    if metadata.is_file() && mode & 0o044 != 0 {
        tracing::warn!(
            "{} can be read by other users of this host (mode {:04o}): chmod 600 it, and remove it after the enrolment",
            path.display(),
            mode & 0o7777
        );
    }
    read_all(file)
}

fn read_all(from: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    from.take(READ_LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Refuses to run a command from a file that other users can write. Root refuses such an agent.toml
/// completely, but another user may use an agent.toml of a third user.
fn refuse_foreign(source: &Source, environment: &Environment) -> Result<()> {
    let Source::Key(_, path) = source else {
        return Ok(());
    };
    let metadata = std::fs::metadata(environment.path(path))
        .map_err(|error| Error::new(ErrorId::Unreadable, error.to_string()).about(source))?;
    let us = nix::unistd::geteuid().as_raw();
    // A file of root is trusted: root can run any command as this user anyway.
    let is_trusted = [us, 0].contains(&metadata.uid());
    if is_trusted && metadata.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(Error::new(
        ErrorId::BadSetting,
        format!(
            "the command would run as user {us}, but other users can write that file (owner {}, mode {:04o})",
            metadata.uid(),
            metadata.mode() & 0o7777
        ),
    )
    .about(source)
    .hint("pass the command as a flag: --token-command CMD"))
}
