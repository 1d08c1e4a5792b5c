//! One error type: what failed, the cause, and a hint that fixes it; the id decides the exit code.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

use crate::escape;
use crate::redact::without_value;

/// Result with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Class of a failure, one of sysexits.h; decides the exit code.
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
    /// Enrolled, but the hub does not hear from this host.
    Silent,
    /// Any other I/O error.
    Io,
    /// The hub's answer is not of this protocol.
    Protocol,
    /// 401 or 403.
    Rejected,
    /// The configuration or the identity on disk is broken or missing.
    Config,
    /// The privileged step before the service is needed again.
    StepNeeded,
}

impl Kind {
    /// Exit code, as in sysexits.h.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 64,
            Self::Refused => 65,
            Self::Unreachable => 69,
            Self::Unwritable => 73,
            Self::Io => 74,
            Self::Silent => 75,
            Self::Protocol => 76,
            Self::Rejected => 77,
            Self::Config => 78,
            Self::StepNeeded => 85,
        }
    }

    /// Meaning of the exit code, for the documentation.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Usage => "usage: bad flag, malformed token, tag or URL",
            Self::Refused => "the hub refused the data",
            Self::Unreachable => "the hub was not reached before the deadline",
            Self::Unwritable => {
                "a file or directory could not be written; said before a use is spent"
            }
            Self::Io => "input or output error",
            Self::Silent => "enrolled, but the hub does not hear from this host; `status` alone",
            Self::Protocol => "the hub's answer is not of this protocol",
            Self::Rejected => "rejected or forbidden: 401, 403",
            Self::Config => {
                "the configuration file, or the identity on disk, is broken, missing, or owned by the wrong user"
            }
            Self::StepNeeded => {
                "the service manager is to run the privileged step and the service again; `run` alone"
            }
        }
    }

    /// All classes, by exit code.
    pub const ALL: [Self; 10] = [
        Self::Usage,
        Self::Refused,
        Self::Unreachable,
        Self::Unwritable,
        Self::Io,
        Self::Silent,
        Self::Protocol,
        Self::Rejected,
        Self::Config,
        Self::StepNeeded,
    ];
}

/// The catalogue: every message the agent can end with. `docs/errors.md` is generated from it.
macro_rules! catalogue {
    ($($(#[$doc:meta])* $id:ident = $code:literal, $kind:ident, $title:literal, $cause:literal, $hint:literal;)*) => {
        /// Which failure it is. The name is stable: `--output json` prints it as `error.id`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ErrorId {
            $(#[doc = $title] $id,)*
        }

        impl ErrorId {
            /// Every failure of the catalogue.
            pub const ALL: &'static [Self] = &[$(Self::$id,)*];

            /// Stable name, as in `error.id` of the JSON output.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$id => $code,)* }
            }

            /// Class, which gives the exit code.
            #[must_use]
            pub const fn kind(self) -> Kind {
                match self { $(Self::$id => Kind::$kind,)* }
            }

            /// First line of the message: what failed.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$id => $title,)* }
            }

            /// When it happens, for the documentation.
            #[must_use]
            pub const fn cause(self) -> &'static str {
                match self { $(Self::$id => $cause,)* }
            }

            /// How to fix it, when the place that failed knows nothing better.
            #[must_use]
            pub const fn hint(self) -> &'static str {
                match self { $(Self::$id => $hint,)* }
            }
        }
    };
}

catalogue! {
    BadArguments = "bad-arguments", Usage, "the command line was not understood",
        "A flag or command is unknown, or a value is missing.",
        "run `monsys-agent --help`, or `monsys-agent COMMAND --help`";
    TokenOnCommandLine = "token-on-command-line", Usage, "a token on the command line is refused",
        "`--token VALUE` was used, or a token stands bare among the arguments. Every user of the host can read a process's arguments.",
        "pass it as MONSYS_TOKEN in the environment, or with --token-file PATH, --token-file - (standard input) or --token-command CMD; treat the one you typed as leaked";
    TokenMissing = "token-missing", Usage, "no token was given",
        "The host is not enrolled, and none of the ways to give a token was used.",
        "set MONSYS_TOKEN, or use --token-file PATH, --token-file - or --token-command CMD";
    TokenMalformed = "token-malformed", Usage, "the token is malformed",
        "It has neither prefix, holds a space, a control or a non-ASCII character, or is longer than 512 bytes. The kind of a token is never guessed.",
        "copy it again: an enrolment token begins with `enrl_`, a per-agent token with `agt_` or `ms_`";
    BadHubUrl = "bad-hub-url", Usage, "the hub's URL is not usable",
        "No scheme, a scheme other than https, a user name or password in it, a query, or plain http to another host.",
        "give it as https://HOST[:PORT]; plain http to another host needs --allow-http";
    BadTag = "bad-tag", Usage, "a tag is not valid",
        "A tag is 1 to 128 characters without comma or control character, and a host has at most 64 of them.",
        "shorten or correct the tag in the place named above";
    BadRole = "bad-role", Usage, "the role is not valid",
        "A role is 1 to 128 characters without control character.",
        "shorten or correct the role in the place named above";
    BadSetting = "bad-setting", Usage, "a setting is not valid",
        "A duration, a CA pin, a proxy URL or a yes/no value could not be read, or a path or URL holds a control character.",
        "correct it in the place named above; `docs/configuration.md` lists what each setting takes";
    OtherHub = "other-hub", Usage, "this host is enrolled at another hub",
        "`enrol` was asked for one hub, while agent.toml holds a credential of another one.",
        "to move the host: monsys-agent enrol --force, with the new hub's token; to keep it: leave the hub's URL out";
    ImageHasIdentity = "image-has-identity", Usage, "an image must not carry an identity",
        "`enrol --defer` prepares a golden image, and the host holds a key, a state or a credential: every host made from the image would begin as this one.",
        "remove the files named above, and run the same command again";
    PackageOwned = "package-owned", Usage, "this host's monsys-agent belongs to a package",
        "`install` or `uninstall` was run where a deb or rpm package has put the agent and its service.",
        "enrol it with `monsys-agent enrol`, start it with `systemctl enable --now monsys-agent`, and remove it with the package manager";
    Refused = "refused", Refused, "the hub refused the request",
        "The hub answered 400, 404, 409, 413, 415, 422, or another status that no retry will change.",
        "check the hub's URL and that the hub speaks this version; `monsys-agent facts --output json` prints what is sent";
    Unreachable = "unreachable", Unreachable, "the hub was not reached before the deadline",
        "No connection, a time-out, a broken reply, or the hub asked to wait (408, 425, 429, 5xx) until --wait ran out; or, at once, a proxy that wants another password (407).",
        "check network, name resolution, proxy (HTTPS_PROXY, NO_PROXY) and the hub, then run the same command again: no use is spent twice";
    Untrusted = "untrusted", Unreachable, "the hub's certificate is not trusted",
        "The chain ends in an unknown CA, the name does not match, the CA pin is not in the chain; or, until --wait ran out, it was expired or not valid yet by this host's clock. Nothing was sent.",
        "give the hub's CA with --ca-file PATH, or its pin with --ca-pin sha256:HEX";
    LockBusy = "lock-busy", Unreachable, "another monsys-agent on this host did not end before the deadline",
        "Of `enrol`, `install`, `uninstall`, `rotate-token`, `rotate-key` and `unenrol`, one runs at a time; the others wait for it.",
        "see what the other run waits for, or end it, and run the same command again";
    ConfigUnwritable = "config-unwritable", Unwritable, "agent.toml cannot be written",
        "It is a directory or a symbolic link, not ours to write, or on a read-only or full file system. Checked before a use is spent.",
        "correct the path named above, or choose another one with --config PATH";
    StateUnwritable = "state-unwritable", Unwritable, "the state directory cannot be written",
        "It is not a directory, not ours to write, or on a read-only or full file system. Checked before a use is spent.",
        "correct the path named above, or choose another one with --state-dir DIR";
    EnvFileUnwritable = "env-file-unwritable", Unwritable, "the env file cannot be written",
        "The file of a dialect that keeps its credential in an env file is a directory, a link or a mount of its own, not ours to write, or on a read-only or full file system. Checked before anything is sent.",
        "correct the path named above, or choose another one with --config PATH or CONFIG_FILE";
    PagesUnwritable = "pages-unwritable", Unwritable, "a manual page could not be written",
        "`man DIR` was given a folder that is not there, not ours to write, or on a read-only or full file system.",
        "make the folder, or name another one: monsys-agent man DIR";
    NeedsRoot = "needs-root", Unwritable, "installing and uninstalling takes root",
        "`install` or `uninstall` was run by another user.",
        "run it as root: sudo --preserve-env=MONSYS_TOKEN monsys-agent install";
    NotInstallable = "not-installable", Unwritable, "a step of the installation failed",
        "A folder or file of the installation is not ours to write, on a read-only or full file system, or something else stands in its place. What the run had done is taken back, unless the host is enrolled: then it stays, and the next run goes on from there.",
        "correct the path named above, and run the same command again";
    Unreadable = "unreadable", Io, "a file could not be read",
        "A file that was asked for is missing, not readable, larger than 1 MiB, or not a regular file; or it is a pipe that did not end before the deadline (--wait).",
        "correct the path or its permissions";
    TokenCommandFailed = "token-command-failed", Io, "the token command failed",
        "The command of --token-command could not be run, ended with an error, printed nothing, or did not end before the deadline.",
        "run the command by hand as the same user";
    TokenLeftBehind = "token-left-behind", Io, "this host is enrolled, but the enrolment token is still on its disk, or may be",
        "`--scrub-cloud-init` was asked for, or cloud-init ran the agent, and a file of cloud-init's holds the token in a form that cannot be taken out, or could not be searched. All else is done.",
        "remove the cause (a read-only mount, a second name, a process that has the file open) and run the same command again, which spends no use; or delete the file: shred -u FILE; or revoke the token";
    SystemCommand = "system-command", Io, "a command of the system failed",
        "A program that `install` or `uninstall` runs, such as systemctl, useradd or rc-service, is missing, ended with an error, or did not end.",
        "run the command named above by hand, as root";
    ServiceFailed = "service-failed", Io, "the service did not start",
        "The service manager could not start monsys-agent, or it ended at once. On an enrolled host, what the run had put in place stays; where the service ran before, the files with which it ran are put back, and it runs again. Without an enrolment, all is taken back.",
        "see what it said, fix that, and run the same command again: journalctl -u monsys-agent";
    Output = "output", Io, "the result could not be written to standard output",
        "Standard output is closed or full.",
        "the host's state is on disk all the same: monsys-agent status";
    Internal = "internal", Io, "an unexpected failure",
        "The system refused something that should not fail, such as random numbers or a timer.",
        "please report it with the output of -vv";
    NotThisProtocol = "not-this-protocol", Protocol, "the answer is not of this protocol",
        "HTML from a captive portal, a redirect, invalid JSON or UTF-8, more than 1 MiB, a field that is missing or malformed, or a server of TLS 1.1 and older. Nothing was written.",
        "check that the URL is the hub's and that nothing (portal, proxy, load balancer) answers in its place: curl -v URL";
    Rejected = "rejected", Rejected, "the hub rejected the token",
        "The hub answered 401. It never tells which: the token is unknown, expired, revoked or used up, or the host's source address is not allowed.",
        "an operator sees the true cause in the dashboard under Settings, Enrolment tokens (status, uses, expiry, allowed CIDRs); mint a new token if need be";
    Forbidden = "forbidden", Rejected, "the hub forbade it",
        "The hub answered 403, for instance because the token was used up in this very moment (`secret_exhausted`).",
        "ask an operator of the hub why; then run the same command again, or enrol anew with --force and an enrolment token";
    OtherKey = "other-key", Rejected, "the hub does not take this host's signing key",
        "The hub answered 403 `signature_invalid`. A new key is pinned only after an operator has unpinned the one before; or this host's key or token is not its own.",
        "an operator unpins the key (POST /api/v1/agents/ID/rotate-signing-key), then run the same command again; or enrol anew with --force and an enrolment token";
    Silent = "silent", Silent, "the hub does not hear from this host",
        "The service has sent heartbeats, and now they fail or are overdue: three intervals and a minute have passed since the last one that the hub took, or the hub refuses the credential. `status` ends so; it prints no error.",
        "see what the service says: journalctl -u monsys-agent -e; and what stands in the way: monsys-agent doctor";
    ConfigBroken = "config-broken", Config, "agent.toml is broken",
        "It is not TOML, not UTF-8, or a key has the wrong type. It is never overwritten in that state.",
        "correct the line named above; or move the file away and enrol again";
    EnvFileBroken = "env-file-broken", Config, "the env file is broken",
        "A value that a dialect reads from its env file has quotes that do not close, or is not UTF-8. The file is never overwritten in that state.",
        "correct the line of the key named above";
    IdentityBroken = "identity-broken", Config, "the host's signing key is broken",
        "agent-signing.key is not a file of 32 bytes.",
        "restore it; or remove it, have an operator unpin the key (POST /api/v1/agents/ID/rotate-signing-key), and run: monsys-agent enrol --force";
    IdentityLost = "identity-lost", Config, "the host's signing key is gone",
        "agent.toml holds a credential, and agent-signing.key, which belongs to it, is not there any more. A new key is never made without being asked for: the hub would take it for a stranger's.",
        "restore the file; or have an operator unpin the key (POST /api/v1/agents/ID/rotate-signing-key), then run: monsys-agent enrol --force";
    CredentialIncomplete = "credential-incomplete", Config, "the credential on this host is not whole",
        "One of the files that belong together is there, and the other is not.",
        "put the missing file back, or remove the other one too, and enrol again";
    ReceiptBroken = "receipt-broken", Config, "the receipt of the installation is broken",
        "/var/lib/monsys/install.json is not readable as one, or others than root could have written it. Nothing is taken back by such a receipt.",
        "move the file away, and run `monsys-agent install` again";
    ForeignOwner = "foreign-owner", Config, "root does not obey a file that others can write",
        "The command runs as root, and a file that decides what it does, or a folder above that file, belongs to another user or can be written by others. Nothing in it was used.",
        "correct owner and mode of the path named above";
    StepNeeded = "step-needed", StepNeeded, "the privileged step before the service has to run again",
        "`run` writes nothing outside of /run/monsys. What needs root (a deferred enrolment, the end of an interrupted rotation) is done by `monsys-agent prepare`, which the service manager runs before it; it did not run in this boot, or there is something new for it.",
        "start the service by its manager, which runs both: systemctl restart monsys-agent, or rc-service monsys-agent restart";
    NotEnrolled = "not-enrolled", Config, "this host is not enrolled",
        "agent.toml holds no confirmed credential, or it belongs to another host that this one was cloned from.",
        "MONSYS_TOKEN=enrl_… monsys-agent enrol";
}

/// A failure with all that its reader needs.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    id: ErrorId,
    subject: Option<String>,
    cause: String,
    hint: String,
    is_accepted: bool,
    stays: Option<Value>,
}

impl Error {
    /// A failure of the catalogue, because of `cause`; with the hint of the catalogue.
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

    /// Names the path, URL or setting that it is about.
    #[must_use]
    pub fn about(mut self, subject: impl fmt::Display) -> Self {
        self.0.subject = Some(subject.to_string());
        self
    }

    /// Replaces the catalogue's hint by one that fits this very case.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = hint.into();
        self
    }

    /// The same, after the hub has accepted this host: what is pending is then never taken back.
    #[must_use]
    pub fn after_acceptance(mut self) -> Self {
        self.0.is_accepted = true;
        self
    }

    /// Adds to the cause what of this run stays all the same, and tells programs of it by `fields`.
    #[must_use]
    pub fn staying(mut self, what: &str, fields: Value) -> Self {
        self.0.cause = format!("{}\n{what}", self.0.cause);
        self.0.stays = Some(fields);
        self
    }

    /// The same without `secret`, which the other side may have repeated: not every system's secrets
    /// have a prefix that [`crate::redact`] would know.
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

    /// Which failure it is.
    #[must_use]
    pub fn id(&self) -> ErrorId {
        self.0.id
    }

    /// What failed.
    #[must_use]
    pub fn what(&self) -> String {
        match &self.0.subject {
            Some(subject) => format!("{}: {subject}", self.0.id.title()),
            None => self.0.id.title().into(),
        }
    }

    /// The path, URL or setting that it is about.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    /// Why it failed.
    #[must_use]
    pub fn cause(&self) -> &str {
        &self.0.cause
    }

    /// What to do next.
    #[must_use]
    pub fn next_step(&self) -> &str {
        &self.0.hint
    }

    /// Whether the hub had accepted this host when it failed.
    #[must_use]
    pub fn is_after_acceptance(&self) -> bool {
        self.0.is_accepted
    }

    /// What of the run stays, for programs.
    #[must_use]
    pub fn stays(&self) -> Option<&Value> {
        self.0.stays.as_ref()
    }

    /// Exit code of the process.
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
    fn tells_what_why_and_next_step_in_that_order() {
        let error = Error::new(ErrorId::ConfigBroken, "line 3 is no TOML").about("/etc/x");
        assert_eq!(
            error.to_string(),
            "agent.toml is broken: /etc/x\n  cause: line 3 is no TOML\n  hint:  correct the line named above; or move the file away and enrol again"
        );
        assert_eq!(error.exit_code(), 78);
    }
}
