//! The settings of a worker, with the names of `LyftData`'s documentation.

use crate::lyftdata::Lyftdata;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::escape::is_hidden;
use agent_core::flags::Flags;
use agent_core::settings::{DialectSettings, Setting, Settings};

use crate::files::RECORD_FILE;

/// The variable of the secret.
const SECRET: &str = "LYFTDATA_AUTO_ENROLLMENT_KEY";

/// Variables that hold a secret: no child process inherits them.
pub(crate) const SECRETS: &[&str] = &[SECRET];
/// The variable of the worker's id.
const WORKER_ID: &str = "LYFTDATA_WORKER_ID";

/// The placeholder where no server is set and no request is sent.
const NO_SERVER: &str = "https://localhost";

static URL: Setting = Setting {
    name: "LyftData's server",
    flag: Some("--hub-url"),
    variables: &["LYFTDATA_URL", "MONSYS_HUB_URL"],
    key: Some("hub_url"),
    default: None,
    help: "URL of the control plane. An enrolled worker is reported without one.",
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
    help: "Folder of the worker's id and API key.",
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
    help: "The id to request. Without one, the agent makes an id.",
};

/// The settings that only this dialect has.
pub(crate) static SETTINGS: &[&Setting] = &[&URL, &NAME, &JOBS_DIR, &KEY, &ID];

/// Returns whether the environment names a `LyftData` server or its secret.
pub(crate) fn is_meant(environment: &Environment) -> bool {
    environment.env("LYFTDATA_URL").is_some() || environment.secret(SECRET).is_some()
}

impl<'a> Lyftdata<'a> {
    /// Reads the settings.
    ///
    /// # Errors
    /// Usage errors, which name the flag or variable.
    pub(crate) fn read(flags: &'a Flags, environment: &'a Environment) -> Result<Self> {
        let jobs_dir = JOBS_DIR.resolve_path(flags.own("--worker-jobs-dir"), environment)?;
        let name = NAME.resolve_one(flags.own("--worker-name"), environment)?;
        let worker = ID.resolve_one(None, environment)?;
        for (text, setting) in [(&name, &NAME), (&worker, &ID)] {
            if let Some(fault) = text.as_deref().and_then(text_fault) {
                return Err(
                    Error::new(ErrorId::BadSetting, fault).about(setting.variables.join(" "))
                );
            }
        }
        let dir = environment.resolved_path(&jobs_dir);
        let has_server = URL
            .resolve_one(flags.hub_url.as_deref(), environment)?
            .is_some();
        let settings = Settings::of_dialect(
            flags,
            environment,
            DialectSettings {
                hub_url: &URL,
                // The server in the record of the enrolment is not a setting: the user of LyftData's worker can write
                // that file, and root would send a request to the server that it names.
                hub_url_in_file: Some(NO_SERVER.into()),
                file: jobs_dir.join(RECORD_FILE),
                folder: jobs_dir,
                secrets: &[SECRET],
                secret_in_file: None,
            },
        )?;
        Ok(Self {
            jobs_dir: dir,
            flags,
            environment,
            settings,
            has_server,
            name,
            worker,
        })
    }
}

/// Returns the reason why a name or an id is not valid, if it is not. White space around it is not valid,
/// since the file of the id is read without that.
pub(crate) fn text_fault(text: &str) -> Option<String> {
    if !(1..=128).contains(&text.chars().count()) || text.contains(is_hidden) {
        return Some(
            "it has to be 1 to 128 characters, with no control or invisible character".into(),
        );
    }
    (text.trim() != text).then(|| "it begins or ends with white space".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_visible_and_has_no_white_space_around_it() {
        for good in ["w", "ingest us 1", &"ä".repeat(128)] {
            assert_eq!(text_fault(good), None, "{good:?}");
        }
        for bad in [
            "",
            " ",
            "\u{3000}",
            " w",
            "w\u{a0}",
            "a\nb",
            "a\u{202e}",
            &"a".repeat(129),
        ] {
            assert!(text_fault(bad).is_some(), "{bad:?}");
        }
    }
}
