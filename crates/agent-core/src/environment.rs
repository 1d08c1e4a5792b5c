//! The environment of one run: root folder, environment variables, standard input, clocks, random numbers.
//!
//! No other module reads these from the system, so each test has its own folder, variables and clock.

mod root_folder;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::clock::{self, Moment};
use crate::error::{Error, ErrorId, Result};
use crate::store::access::{Access, GroupFile};
use crate::store::passwd;
use crate::store::safe_read;
use crate::store::trust::Trusted;
use root_folder::RootFolder;

/// The environment variable that holds the secret. No child process inherits it.
pub const SECRET_VARIABLE: &str = "MONSYS_TOKEN";

/// Standard input, shared with the thread that reads it.
pub type SharedInput = Arc<Mutex<Box<dyn Read + Send>>>;

/// Shows a line in place of the line before; an empty line clears it.
pub type Progress = Box<dyn Fn(&str) + Send + Sync>;

/// The environment of one run of the agent.
pub struct Environment {
    root: RootFolder,
    kernel: PathBuf,
    executable: PathBuf,
    arguments: Vec<OsString>,
    access: Mutex<Option<(Access, GroupFile)>>,
    trusted: Mutex<Trusted>,
    variables: BTreeMap<OsString, OsString>,
    secret_variables: Vec<&'static str>,
    secrets: BTreeMap<&'static str, SecretString>,
    stdin: SharedInput,
    clock: Box<dyn Fn() -> SystemTime + Send + Sync>,
    boot_clock: Box<dyn Fn() -> Option<Duration> + Send + Sync>,
    random: Mutex<fastrand::Rng>,
    progress: Option<Progress>,
}

impl Environment {
    /// Returns the environment of this process. No child process inherits `MONSYS_TOKEN` and
    /// `secret_variables`.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "no other function reads them")]
    pub fn real(secret_variables: impl IntoIterator<Item = &'static str>) -> Self {
        let others = secret_variables.into_iter();
        Self {
            root: RootFolder::new(PathBuf::from("/")),
            kernel: PathBuf::from("/"),
            executable: PathBuf::from("/proc/self/exe"),
            arguments: Vec::new(),
            access: Mutex::default(),
            trusted: Mutex::default(),
            variables: BTreeMap::new(),
            secret_variables: others.chain([SECRET_VARIABLE]).collect(),
            secrets: BTreeMap::new(),
            stdin: Arc::new(Mutex::new(Box::new(io::stdin()))),
            clock: Box::new(SystemTime::now),
            boot_clock: Box::new(clock::since_boot),
            random: Mutex::new(fastrand::Rng::new()),
            progress: None,
        }
        .with_variables(std::env::vars_os())
    }

    /// Replaces the environment variables.
    #[must_use]
    pub fn with_variables<K: Into<OsString>, V: Into<OsString>>(
        mut self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.variables.clear();
        self.secrets.clear();
        for (name, value) in variables {
            let (name, value) = (name.into(), value.into());
            match self.secret_variables.iter().find(|secret| name == **secret) {
                Some(secret) => {
                    let value = Zeroizing::new(value.into_encoded_bytes());
                    let value = String::from_utf8_lossy(&value).into_owned().into();
                    self.secrets.insert(secret, value);
                }
                None => {
                    self.variables.insert(name, value);
                }
            }
        }
        self
    }

    /// Places every path of the host under `root`, as `dpkg --root` does.
    #[must_use]
    pub fn with_root(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = RootFolder::new(root.into());
        self
    }

    /// Places `/proc` and `/sys` under another folder. They belong to the running kernel and not to the
    /// host's file tree, so `--root` does not move them.
    #[must_use]
    pub fn with_kernel(mut self, folder: impl Into<PathBuf>) -> Self {
        self.kernel = folder.into();
        self
    }

    /// Replaces the path of the running program.
    #[must_use]
    pub fn with_executable(mut self, path: impl Into<PathBuf>) -> Self {
        self.executable = path.into();
        self
    }

    /// Sets the arguments that this program was started with, its name included.
    #[must_use]
    pub fn with_arguments(mut self, arguments: Vec<OsString>) -> Self {
        self.arguments = arguments;
        self
    }

    /// Replaces standard input.
    #[must_use]
    pub fn with_stdin(mut self, input: impl Read + Send + 'static) -> Self {
        self.stdin = Arc::new(Mutex::new(Box::new(input)));
        self
    }

    /// Replaces the clock of the time of day.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Replaces the clock of the time since the boot.
    #[must_use]
    pub fn with_boot_clock(
        mut self,
        clock: impl Fn() -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        self.boot_clock = Box::new(clock);
        self
    }

    /// Makes the random numbers repeatable.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.random = Mutex::new(fastrand::Rng::with_seed(seed));
        self
    }

    /// Sets the function that shows the progress on a terminal.
    #[must_use]
    pub fn with_progress(mut self, progress: Progress) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Returns the function that shows the progress, if there is a terminal.
    #[must_use]
    pub fn progress(&self) -> Option<&Progress> {
        self.progress.as_ref()
    }

    /// Returns the path on this machine of the host's file `path` (absolute). The last name may be a link,
    /// so use it for files that are opened with `O_NOFOLLOW`, replaced, or removed. Below `--root`, every
    /// other link is resolved in the tree and never leads out of it.
    #[must_use]
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.resolve_parent(path.as_ref())
    }

    /// Resolves the last name too, unlike [`Environment::path`]: for folders, and for files that are read
    /// through a link. A missing file has the path at which it would be created.
    #[must_use]
    pub fn resolved_path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.resolve(path.as_ref())
    }

    /// Resolves `path` of another host, whose `/` is mounted at `mount`, as [`Environment::resolved_path`]
    /// does.
    #[must_use]
    pub fn resolved_path_in(&self, mount: impl AsRef<Path>, path: impl AsRef<Path>) -> PathBuf {
        RootFolder::new(self.resolved_path(mount)).resolve(path.as_ref())
    }

    /// Returns the host's own name for `path` on this machine, without `--root`. Returns `None` for a path
    /// outside of the root folder.
    #[must_use]
    pub fn path_on_host(&self, path: &Path) -> Option<PathBuf> {
        let relative = path.strip_prefix(self.root.path()).ok()?;
        Some(Path::new("/").join(relative))
    }

    /// Returns the path on this machine of the kernel's file `path`, below `/proc` or `/sys`.
    #[must_use]
    pub fn kernel_path(&self, path: impl AsRef<Path>) -> PathBuf {
        below(&self.kernel, path.as_ref())
    }

    /// Returns the folder that stands for `/`.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Returns the owner and the readers of the host's files, as they were at the first call.
    #[must_use]
    pub fn access(&self) -> Access {
        let mut access = self.access.lock().unwrap_or_else(PoisonError::into_inner);
        let of_group_file = || Access::of(&self.resolved_path("/etc/group"));
        access.get_or_insert_with(of_group_file).0
    }

    /// Makes the next call of [`Environment::access`] read again, if the service's group may have been added or
    /// removed since.
    pub fn forget_access(&self) {
        let mut access = self.access.lock().unwrap_or_else(PoisonError::into_inner);
        access.take_if(|(_, groups)| groups.has_changed());
    }

    /// Refuses a folder of the host that others than root can write: see [`Trusted::folder`].
    ///
    /// # Errors
    /// [`ErrorId::ForeignOwner`].
    pub fn refuse_foreign_folder(&self, folder: &Path) -> Result<()> {
        let mut trusted = self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        trusted.folder(folder, self.root())
    }

    /// Refuses a file of the host that others than root can write: see [`Trusted::file`].
    ///
    /// # Errors
    /// [`ErrorId::ForeignOwner`].
    pub fn refuse_foreign_file(&self, file: &Path) -> Result<()> {
        let mut trusted = self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        trusted.file(file, self.root())
    }

    /// Returns the id of this boot (random(4)), or an empty text when the kernel does not report it.
    #[must_use]
    pub fn boot_id(&self) -> String {
        let text = safe_read::kernel(&self.kernel_path("/proc/sys/kernel/random/boot_id"));
        text.unwrap_or_default().trim().to_owned()
    }

    /// Returns whether the host is the running system, and not a folder of files (`--root`).
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.root.is_live()
    }

    /// Returns a path to read the running program from, which works after its file was replaced too.
    #[must_use]
    pub fn executable(&self) -> &Path {
        &self.executable
    }

    /// Returns the value of an environment variable. A blank value counts as unset.
    #[must_use]
    pub fn env(&self, name: &str) -> Option<&OsStr> {
        self.variables
            .get(OsStr::new(name))
            .map(OsString::as_os_str)
            .filter(|value| value.to_str().is_none_or(|text| !text.trim().is_empty()))
    }

    /// Returns the secret in this environment variable. An empty value counts as unset.
    #[must_use]
    pub fn secret(&self, variable: &str) -> Option<&SecretString> {
        use secrecy::ExposeSecret;
        self.secrets
            .get(variable)
            .filter(|secret| !secret.expose_secret().trim().is_empty())
    }

    /// Returns the variables that a child process inherits: all except the secrets.
    pub fn child_environment(&self) -> impl Iterator<Item = (&OsString, &OsString)> {
        self.variables.iter()
    }

    /// Executes the same program again in this process, with the same arguments and `flag`, without the
    /// secrets of the environment, and as `user` if a user is named (passwd(5)). Returns the error when that
    /// failed, or `None` when the arguments are not known, as in a test.
    ///
    /// # Errors
    /// [`ErrorId::BadArguments`] for a user that the host does not have.
    pub fn execute_again(&self, user: Option<&str>, flag: &str) -> Result<Option<io::Error>> {
        let Some((name, arguments)) = self.arguments.split_first() else {
            return Ok(None);
        };
        let mut again = Command::new(&self.executable);
        again
            .arg0(name)
            .args(arguments)
            .arg(flag)
            .env_clear()
            .envs(self.child_environment());
        if let Some(user) = user {
            let (uid, gid) =
                passwd::find(&self.resolved_path("/etc/passwd"), user).ok_or_else(|| {
                    Error::new(ErrorId::BadArguments, format!("there is no user {user:?}"))
                    .about("--user")
                    .hint("monsys-agent install, which makes the user; or name one of /etc/passwd")
                })?;
            // With a user, the standard library also drops the supplementary groups.
            again.uid(uid).gid(gid);
        }
        Ok(Some(again.exec()))
    }

    /// Returns standard input.
    #[must_use]
    pub fn stdin(&self) -> SharedInput {
        Arc::clone(&self.stdin)
    }

    /// Returns the time of day, limited to the years 1970 to 9999.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        clock::expressible((self.clock)())
    }

    /// Returns the time since the boot, or `None` when the kernel does not report it.
    #[must_use]
    pub fn since_boot(&self) -> Option<Duration> {
        (self.boot_clock)()
    }

    /// Returns the present moment, in the boot `boot_id`.
    #[must_use]
    pub fn moment(&self, boot_id: &str) -> Moment {
        Moment {
            wall: self.now(),
            since_boot: self.since_boot().map(|time| time.as_secs()),
            boot_id: boot_id.to_owned(),
        }
    }

    /// Returns a random duration from zero up to `limit`.
    #[must_use]
    pub fn random_up_to(&self, limit: Duration) -> Duration {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        let share = random.f64();
        Duration::try_from_secs_f64(limit.as_secs_f64() * share)
            .map_or(limit, |time| time.min(limit))
    }
}

fn below(root: &Path, path: &Path) -> PathBuf {
    match path.strip_prefix("/") {
        Ok(relative) => root.join(relative),
        Err(_) => root.join(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_root() {
        let environment = Environment::real([]).with_root("/scratch");
        assert_eq!(
            environment.path("/etc/os-release"),
            Path::new("/scratch/etc/os-release")
        );
        assert_eq!(
            Environment::real([]).path("/etc/os-release"),
            Path::new("/etc/os-release")
        );
    }

    #[test]
    fn child_processes_do_not_inherit_the_secret() {
        let environment =
            Environment::real([]).with_variables([("MONSYS_TOKEN", "enrl_x"), ("A", "b")]);
        assert!(environment.secret(SECRET_VARIABLE).is_some());
        assert!(environment.env("MONSYS_TOKEN").is_none());
        assert_eq!(environment.child_environment().count(), 1);
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let environment =
            Environment::real([]).with_variables([("MONSYS_TOKEN", " "), ("MONSYS_ROLE", "")]);
        assert!(environment.secret(SECRET_VARIABLE).is_none());
        assert!(environment.env("MONSYS_ROLE").is_none());
    }
}
