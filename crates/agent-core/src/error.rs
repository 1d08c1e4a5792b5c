//! One error type: what failed, the cause, and a hint that fixes it; the id decides the exit code.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

use crate::escape;
use crate::redact::without_value;

/// A result with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The class of a failure (sysexits.h), which decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bad flag, malformed token, tag or URL.
    Usage,
    /// The hub refused the data.
    Refused,
    /// The hub was not reached before the deadline.
    Unreachable,
    /// A file or directory could not be written.
    Unwritable,
    /// Enrolled, but the hub did not confirm it in this run, or receives no heartbeats from this host.
    Temporary,
    /// Any other I/O error.
    Io,
    /// The hub's response does not match the protocol.
    Protocol,
    /// The hub answered 401 or 403.
    Rejected,
    /// The configuration or the identity on disk is broken or missing.
    Config,
    /// The privileged step before the service has to run again.
    StepNeeded,
    /// The host is not enrolled, and the service has nothing to do.
    Idle,
}

impl Kind {
    /// Returns the exit code, as in sysexits.h.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 64,
            Self::Refused => 65,
            Self::Unreachable => 69,
            Self::Unwritable => 73,
            Self::Io => 74,
            Self::Temporary => 75,
            Self::Protocol => 76,
            Self::Rejected => 77,
            Self::Config => 78,
            Self::StepNeeded => 85,
            Self::Idle => 86,
        }
    }

    /// Returns the meaning of the exit code, for the documentation.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Usage => "usage: bad flag, malformed token, tag or URL",
            Self::Refused => "the hub refused the data",
            Self::Unreachable => "the hub was not reached before the deadline",
            Self::Unwritable => {
                "a file or directory could not be written; reported before a use of the token is spent"
            }
            Self::Io => "input or output error",
            Self::Temporary => {
                "from `enrol` and `install`: enrolled before, and the hub did not answer in this run; from `status`: enrolled, but the hub receives no heartbeats from this host"
            }
            Self::Protocol => "the hub's response does not match the protocol",
            Self::Rejected => "rejected or forbidden: 401, 403",
            Self::Config => {
                "the configuration file, or the identity on disk, is broken, missing, or owned by the wrong user"
            }
            Self::StepNeeded => {
                "the service manager has to run the privileged step and the service again; only from `run`"
            }
            Self::Idle => {
                "the host is not enrolled, and nothing on it asks for an enrolment; only from `run --if-enrolled`"
            }
        }
    }

    /// All classes, in the order of their exit codes.
    pub const ALL: [Self; 11] = [
        Self::Usage,
        Self::Refused,
        Self::Unreachable,
        Self::Unwritable,
        Self::Io,
        Self::Temporary,
        Self::Protocol,
        Self::Rejected,
        Self::Config,
        Self::StepNeeded,
        Self::Idle,
    ];
}

/// The catalogue of all errors with which the agent can end. `docs/errors.md` is generated from it.
macro_rules! catalogue {
    ($($(#[$doc:meta])* $id:ident = $code:literal, $kind:ident, $title:literal, $cause:literal, $hint:literal;)*) => {
        /// The id of a failure. Its name is stable: `--output json` prints it as `error.id`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ErrorId {
            $(#[doc = $title] $id,)*
        }

        impl ErrorId {
            /// All failures of the catalogue.
            pub const ALL: &'static [Self] = &[$(Self::$id,)*];

            /// Returns the stable name, as in `error.id` of the JSON output.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$id => $code,)* }
            }

            /// Returns the class, which decides the exit code.
            #[must_use]
            pub const fn kind(self) -> Kind {
                match self { $(Self::$id => Kind::$kind,)* }
            }

            /// Returns the first line of the message: what failed.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$id => $title,)* }
            }

            /// Returns the usual causes, for the documentation.
            #[must_use]
            pub const fn cause(self) -> &'static str {
                match self { $(Self::$id => $cause,)* }
            }

            /// Returns the hint for a failure that has no hint of its own.
            #[must_use]
            pub const fn hint(self) -> &'static str {
                match self { $(Self::$id => $hint,)* }
            }
        }
    };
}

catalogue! {
    BadArguments = "bad-arguments", Usage, "the command line is not valid",
        "A flag or command is unknown, or a value is missing.",
        "run `monsys-agent --help`, or `monsys-agent COMMAND --help`";
    TokenOnCommandLine = "token-on-command-line", Usage, "a token on the command line is refused",
        "The command line has `--token VALUE`, or a token as an argument. Every user of the host can read the arguments of a process.",
        "set MONSYS_TOKEN, or use --token-file PATH, --token-file - (standard input) or --token-command CMD; revoke the token that you typed, because other users may have read it";
    TokenMissing = "token-missing", Usage, "no token was given",
        "The host is not enrolled, and no source of a token is set.",
        "set MONSYS_TOKEN, or use --token-file PATH, --token-file - or --token-command CMD";
    TokenMalformed = "token-malformed", Usage, "the token is malformed",
        "The token has an unknown prefix, contains a space, a control or a non-ASCII character, or is longer than 512 bytes. The prefix alone decides the kind of a token.",
        "copy the token again: an enrolment token begins with `enrl_`, a per-agent token with `agt_` or `ms_`";
    BadHubUrl = "bad-hub-url", Usage, "the hub's URL is not valid",
        "The URL has no scheme, a scheme other than https, a user name, a password, a query or a host name that is not ASCII; or it is plain http to another host.",
        "write the URL as https://HOST[:PORT]; plain http to another host needs --allow-http";
    BadTag = "bad-tag", Usage, "a tag is not valid",
        "A tag has 1 to 128 characters, without commas and control characters. A host has at most 64 tags.",
        "shorten or correct the tag in the setting named above";
    BadRole = "bad-role", Usage, "the role is not valid",
        "A role has 1 to 128 characters, without control characters.",
        "shorten or correct the role in the setting named above";
    BadSetting = "bad-setting", Usage, "a setting is not valid",
        "A duration, a CA pin, a proxy URL or a boolean could not be parsed, a path or URL contains a control character, or a proxy's host name is not ASCII.",
        "correct the setting named above; `docs/configuration.md` lists the values of each setting";
    OtherHub = "other-hub", Usage, "this host is enrolled at another hub",
        "The flag or the variable of this run names one hub, and agent.toml has a credential of another hub. The credential is sent to no other hub.",
        "to move the host: monsys-agent enrol --force, with a token of the new hub; to stay enrolled where it is: do not set the hub's URL";
    OtherDialect = "other-dialect", Usage, "this host's service serves another dialect",
        "`install` was run for a dialect, and the service of an earlier `install` serves another one, whose heartbeats and renewals would end.",
        "to serve the new dialect: monsys-agent uninstall, which keeps the host's credential, then run the same command again";
    ImageHasIdentity = "image-has-identity", Usage, "an image must not carry an identity",
        "`enrol --defer` prepares a golden image, but this host has a key, a state or a credential. Every host that is made from the image would have the same identity.",
        "remove the files named above, and run the same command again";
    PackageOwned = "package-owned", Usage, "this host's monsys-agent belongs to a package",
        "`install` or `uninstall` was run on a host where a deb or rpm package installed the agent and its service.",
        "enrol with `monsys-agent enrol`, start the service with `systemctl enable --now monsys-agent`, and remove the agent with the package manager";
    Refused = "refused", Refused, "the hub refused the request",
        "The hub answered 400, 404, 409, 413, 415, 422, or another status for which a retry is of no use.",
        "check the hub's URL and that the hub supports this version of the agent; `monsys-agent facts --output json` prints the data that is sent";
    Unreachable = "unreachable", Unreachable, "the hub was not reached before the deadline",
        "The host could not connect, a time-out passed, the response was incomplete, or the hub requested a retry (408, 425, 429, 5xx) until the deadline (--wait). If the proxy needs another password (407), the command fails at once.",
        "check the network, name resolution, the proxy (HTTPS_PROXY, NO_PROXY) and the hub, then run the same command again: no use is spent twice";
    Untrusted = "untrusted", Unreachable, "the hub's certificate is not trusted",
        "The chain ends in an unknown CA, the name does not match, or the chain does not have the CA pin; or, until the deadline (--wait), the certificate was expired or not yet valid by this host's clock. No data was sent.",
        "name the hub's CA with --ca-file PATH, or its pin with --ca-pin sha256:HEX";
    ProxyUntrusted = "proxy-untrusted", Unreachable, "the proxy's certificate is not trusted",
        "The certificate of an https proxy does not verify. The built-in roots and the system's store decide about it; --ca-file and --ca-pin are for the hub only. No data was sent.",
        "add the proxy's CA to the system's store (update-ca-certificates, update-ca-trust), or set the proxy's URL to http://";
    LockBusy = "lock-busy", Unreachable, "another monsys-agent on this host did not end before the deadline",
        "Only one of `enrol`, `install`, `uninstall`, `rotate-token`, `rotate-key` and `unenrol` runs at a time. The others wait for it.",
        "find out why the other process waits, or end it, and run the same command again";
    ConfigUnwritable = "config-unwritable", Unwritable, "agent.toml cannot be written",
        "The path is a directory, a symbolic link or a mount point, or has an attribute that forbids its replacement (chattr); the agent has no permission to write; or the file system is read-only or full, or accepts no owner and mode. This is checked before a use of the token is spent.",
        "correct the path named above, or choose another path with --config PATH";
    ConfigUnreadable = "config-unreadable", Unwritable, "the configuration file cannot be read",
        "Another user than root or the owner ran the command: no other user may read agent.toml, or the env file of a dialect, because it holds the host's credential. `status --check-hub` ends with 74.",
        "run the command as root (sudo), or as the owner of the file";
    StateUnwritable = "state-unwritable", Unwritable, "the state directory cannot be written",
        "The path is not a directory; a file in it is a directory or a mount point, or has an attribute that forbids its replacement (chattr); the agent has no permission to write; or the file system is read-only or full, or has no owners or modes. This is checked before a use of the token is spent.",
        "correct the path named above, or choose another path with --state-dir DIR";
    JobsDirUnwritable = "jobs-dir-unwritable", Unwritable, "the jobs directory cannot be written",
        "LyftData's jobs directory, or a file in it, is a file of another kind or a mount point, the agent has no permission to write, or the file system is read-only or full. This is checked before a request is sent.",
        "correct the path named above, or choose another folder with --worker-jobs-dir DIR";
    EnvFileUnwritable = "env-file-unwritable", Unwritable, "the env file cannot be written",
        "The dialect stores its credential in an env file. The path is a directory, a symbolic link or a mount point, the agent has no permission to write, or the file system is read-only or full. This is checked before a request is sent.",
        "correct the path named above, or choose another path with --config PATH or CONFIG_FILE";
    PagesUnwritable = "pages-unwritable", Unwritable, "a manual page could not be written",
        "The folder in `man DIR` does not exist, the user has no permission to write, or the file system is read-only or full.",
        "create the folder, or name another folder: monsys-agent man DIR";
    NeedsRoot = "needs-root", Unwritable, "`install` and `uninstall` need root",
        "`install` or `uninstall` was run by another user.",
        "run the command as root: sudo --preserve-env=MONSYS_TOKEN monsys-agent install";
    NotInstallable = "not-installable", Unwritable, "a step of the installation failed",
        "The agent has no permission to write a folder or file of the installation, the file system is read-only or full, or another file is in the way. The changes of the run are rolled back. If the host is enrolled, the changes stay, and the next run continues.",
        "correct the path named above, and run the same command again";
    Unreadable = "unreadable", Io, "a file could not be read",
        "A file that the command needs is missing, not readable, larger than 1 MiB, or not a regular file; or it is a pipe that did not end before the deadline (--wait). A missing --token-file is waited for until the deadline.",
        "correct the path or its permissions";
    TokenCommandFailed = "token-command-failed", Io, "the token command failed",
        "The command in --token-command could not be run, ended with an error, printed nothing, or did not end. It is run again until the deadline (--wait). If the shell does not find or cannot execute a program (127, 126), the agent fails at once.",
        "run the command by hand as the same user";
    TokenLeftBehind = "token-left-behind", Io, "this host is enrolled, but the enrolment token may still be on its disk",
        "`--scrub-cloud-init` was set, or cloud-init ran the agent. A file of cloud-init has the token in a form that cannot be removed, or the file could not be searched. All other work is complete.",
        "remove the cause (a read-only mount, a hard link, a process that has the file open) and run the same command again, which spends no use; or delete the file: shred -u FILE; or revoke the token";
    SystemCommand = "system-command", Io, "a system command failed",
        "A program that `install` or `uninstall` runs, such as systemctl, useradd or rc-service, is missing, ended with an error, or did not end.",
        "run the command named above by hand, as root";
    ServiceFailed = "service-failed", Io, "the service did not start",
        "The service manager could not start monsys-agent, or the service ended at once. On an enrolled host, the new files stay. If the service ran before, its old files are restored, and it runs again. On a host that is not enrolled, all changes are rolled back.",
        "read the log (journalctl -u monsys-agent), fix the cause, and run the same command again";
    Output = "output", Io, "the result could not be written to standard output",
        "Standard output is closed or full.",
        "the command's changes are on disk nevertheless; to print the host's state: monsys-agent status";
    Internal = "internal", Io, "an unexpected failure",
        "The system refused an operation that normally succeeds, such as random numbers or a timer.",
        "please report it with the output of -vv";
    NotThisProtocol = "not-this-protocol", Protocol, "the hub's response does not match the protocol",
        "The response is HTML of a captive portal, a redirect, invalid JSON or UTF-8, or larger than 1 MiB; a field is missing or malformed; or the server has only TLS 1.1 or older. No file was written.",
        "check that the URL is the hub's and that no portal, proxy or load balancer answers in its place: curl -v URL";
    NotConfirmed = "not-confirmed", Temporary, "the hub did not confirm the enrolment in this run",
        "The host was enrolled before, and nothing was to be changed. The hub did not answer within 10 seconds, or within --wait if that is set.",
        "if the hub is down for a short time, no action is needed; otherwise check the network and the hub (monsys-agent doctor), and run the same command again; to ask no hub: monsys-agent enrol --offline";
    Forgotten = "forgotten", Rejected, "the hub does not know this host any more",
        "The hub answered `unauthorized` or `unknown_agent` to the host's own credential. The hub lost its data or was restored from an older copy, or an operator deleted the agent or rotated its token. The credential stays in agent.toml.",
        "an operator looks up the agent at the hub; if the hub lost its data: open the readmission at the hub, then run `monsys-agent enrol` again; if the token was rotated: monsys-agent rotate-token --token-file -; otherwise enrol with an enrolment token: MONSYS_TOKEN=enrl_… monsys-agent enrol";
    Rejected = "rejected", Rejected, "the hub rejected the token",
        "The hub answered 401. The response never names the cause: the token is unknown, expired, revoked or used up, or the host's source address is not allowed.",
        "an operator finds the cause in the dashboard under Settings, Enrolment tokens (status, uses, expiry, allowed CIDRs); create a new token if necessary";
    Forbidden = "forbidden", Rejected, "the hub forbids the request",
        "The hub answered 403, for instance because another host spent the last use of the token at the same time (`secret_exhausted`).",
        "an operator of the hub finds the cause; then run the same command again, or enrol again with --force and an enrolment token";
    OtherKey = "other-key", Rejected, "the hub does not accept this host's signing key",
        "The hub answered 403 `signature_invalid`. The hub pins a new key only after an operator has unpinned the old key; or this host has the key or token of another host.",
        "an operator unpins the key (POST /api/v1/agents/ID/rotate-signing-key), then run the same command again; or enrol again with --force and an enrolment token";
    Silent = "silent", Temporary, "the hub receives no heartbeats from this host",
        "The service has sent heartbeats before. Now they fail or are overdue (three intervals and a minute since the last accepted heartbeat), or the hub refuses the credential. `status` exits with this code; it prints no error.",
        "read the service's log: journalctl -u monsys-agent -e; and find the cause: monsys-agent doctor";
    ConfigBroken = "config-broken", Config, "agent.toml is broken",
        "The file is not TOML, not UTF-8, or a key has the wrong type. The agent never overwrites a broken file.",
        "correct the line or the key named above; or move the file away and enrol again";
    EnvFileBroken = "env-file-broken", Config, "the env file is broken",
        "A value that a dialect reads from its env file has an unclosed quote, or is not UTF-8. The agent never overwrites a broken file.",
        "correct the line of the key named above";
    IdentityBroken = "identity-broken", Config, "the host's signing key is broken",
        "agent-signing.key is not a file of 32 bytes.",
        "restore the file; or remove it, have an operator unpin the key (POST /api/v1/agents/ID/rotate-signing-key), and run: monsys-agent enrol --force";
    IdentityLost = "identity-lost", Config, "the host's signing key is gone",
        "agent.toml has a credential, but its key, agent-signing.key, is missing. The agent makes a new key only on request, because the hub would refuse an unknown key.",
        "restore the file; or have an operator unpin the key (POST /api/v1/agents/ID/rotate-signing-key), then run: monsys-agent enrol --force";
    CredentialIncomplete = "credential-incomplete", Config, "the credential on this host is incomplete",
        "One of the files of the credential exists, and another is missing.",
        "restore the missing file, or remove the other file too, and enrol again";
    InstallRecordBroken = "install-record-broken", Config, "the install record is broken",
        "/var/lib/monsys/install.json cannot be parsed, other users than root could have written it, or it is gone although the host has the service of an installation. The agent rolls nothing back by such a record.",
        "move the file away, and run `monsys-agent install` again";
    ForeignOwner = "foreign-owner", Config, "root does not trust a file that others can write",
        "The command runs as root. A file that decides what the command does, or a folder above that file, belongs to another user, or other users can write it. The command used nothing from the file.",
        "correct the owner and the mode of the path named above";
    StepNeeded = "step-needed", StepNeeded, "the privileged step before the service has to run again",
        "`run` writes only below /run/monsys. The service manager runs `monsys-agent prepare` first, for the work that needs root (a deferred enrolment, the end of an interrupted rotation). That step did not run since the boot, or there is new work for it.",
        "start the service by its manager, which runs both: systemctl restart monsys-agent, or rc-service monsys-agent restart";
    Idle = "idle", Idle, "this host is not enrolled, and the service has nothing to do",
        "The host was never enrolled, or is unenrolled, and no token source is set. The unit runs `run --if-enrolled`, which ends so. The service manager does not count this as a failure, so an image with a package boots without one.",
        "MONSYS_TOKEN=enrl_… monsys-agent enrol; then start the service: systemctl start monsys-agent";
    NotEnrolled = "not-enrolled", Config, "this host is not enrolled",
        "agent.toml has no confirmed credential, or its credential belongs to the host from which this host was cloned.",
        "MONSYS_TOKEN=enrl_… monsys-agent enrol";
}

/// A failure: what failed, its cause, and a hint.
#[derive(Clone, Debug)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    id: ErrorId,
    subject: Option<String>,
    cause: String,
    hint: String,
    is_accepted: bool,
    stays: Option<Value>,
}

impl Error {
    /// Makes an error with this cause and with the hint of the catalogue.
    pub fn new(id: ErrorId, cause: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            id,
            subject: None,
            cause: cause.into(),
            hint: id.hint().into(),
            is_accepted: false,
            stays: None,
        }))
    }

    /// Sets the path, URL or setting that the error is about.
    #[must_use]
    pub fn about(mut self, subject: impl fmt::Display) -> Self {
        self.0.subject = Some(subject.to_string());
        self
    }

    /// Replaces the catalogue's hint with a hint for this case.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = hint.into();
        self
    }

    /// Marks a failure that came after the hub accepted this host: `install` then rolls nothing back.
    #[must_use]
    pub fn after_acceptance(mut self) -> Self {
        self.0.is_accepted = true;
        self
    }

    /// Adds to the cause which changes of this run stay in place, with `fields` for programs.
    #[must_use]
    pub fn staying(mut self, what: &str, fields: Value) -> Self {
        self.0.cause = format!("{}\n{what}", self.0.cause);
        self.0.stays = Some(fields);
        self
    }

    /// Removes `secret` from the cause and the hint: the other side may have repeated it, and
    /// [`crate::redact`] knows only the prefixes of monsys tokens.
    #[must_use]
    pub fn hiding(mut self, secret: &str) -> Self {
        let Inner { cause, hint, .. } = &mut *self.0;
        for text in [cause, hint] {
            if let Cow::Owned(clean) = without_value(text, secret) {
                *text = clean;
            }
        }
        self
    }

    /// Returns the id of the failure.
    #[must_use]
    pub fn id(&self) -> ErrorId {
        self.0.id
    }

    /// Returns what failed, with the path, URL or setting.
    #[must_use]
    pub fn what(&self) -> String {
        match &self.0.subject {
            Some(subject) => format!("{}: {subject}", self.0.id.title()),
            None => self.0.id.title().into(),
        }
    }

    /// Replaces the cause. The subject and the hint stay.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<String>) -> Self {
        self.0.cause = cause.into();
        self
    }

    /// Returns the path, URL or setting that the error is about.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    /// Returns the cause.
    #[must_use]
    pub fn cause(&self) -> &str {
        &self.0.cause
    }

    /// Returns the hint.
    #[must_use]
    pub fn next_step(&self) -> &str {
        &self.0.hint
    }

    /// Returns true when the hub had accepted this host before the failure.
    #[must_use]
    pub fn is_after_acceptance(&self) -> bool {
        self.0.is_accepted
    }

    /// Returns which changes of the run stay in place, for programs.
    #[must_use]
    pub fn stays(&self) -> Option<&Value> {
        self.0.stays.as_ref()
    }

    /// Returns the exit code of the process.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.0.id.kind().exit_code()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}\n  cause: {}\n  hint:  {}",
            escape::one_line(&self.what()),
            escape::indented(self.cause()),
            escape::indented(self.next_step())
        )
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_in_kebab_case() {
        let mut seen = std::collections::HashSet::new();
        for id in ErrorId::ALL {
            assert!(seen.insert(id.code()), "{} twice", id.code());
            assert!(
                id.code()
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c == '-')
            );
        }
    }

    #[test]
    fn prints_the_failure_the_cause_and_the_hint_in_that_order() {
        let error = Error::new(ErrorId::ConfigBroken, "line 3 is not TOML").about("/etc/x");
        assert_eq!(
            error.to_string(),
            "agent.toml is broken: /etc/x\n  cause: line 3 is not TOML\n  hint:  correct the line or the key named above; or move the file away and enrol again"
        );
        assert_eq!(error.exit_code(), 78);
    }
}
