//! Mimir: an enrollment secret and a request for a certificate, exchanged for a client certificate,
//! put beside its key.
//!
//! What makes it safe to be killed anywhere: the key is on the disk before the first request, and
//! every later try asks for that same key. A server that knows a key again spends no second use.

mod asking;
mod certificate;
mod host;
mod key;
mod renewal;
mod status;
mod wire;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Account, Dialect, Exchange, Folder, Later, Plan, Preview};
use crate::doctor::Check;
use crate::enrolment::{Done, Enrolment};
use crate::error::{Error, ErrorId, Result};
use crate::facts::HostFacts;
use crate::hub::retry::Limit;
use crate::settings::{Flags, Given, Origin, Setting, Settings, SystemSettings};
use crate::token::{Kind, Token};
use crate::token_source::TokenSource;
use crate::world::World;
use asking::Asking;
use host::{Host, NOTES, Standing};

/// The variable of the secret. The documentation names none, so this one is ours.
const SECRET: &str = "MIMIR_ENROLLMENT_SECRET";
/// The variable of the server.
const SERVER: &str = "MIMIR_SERVER_URL";
/// The variable of the folder.
const FOLDER: &str = "MIMIR_DIR";
const DEFAULT_FOLDER: &str = "/etc/mimir";
/// The lock, in the folder.
const LOCK: &str = ".monsys-enrol.lock";
/// Stands for a server where none is given and none is asked.
const NO_SERVER: &str = "https://localhost";

static SERVER_URL: Setting = Setting {
    name: "server",
    flag: Some("--hub-url"),
    variables: &[SERVER, "MONSYS_HUB_URL"],
    key: Some("server_url"),
    default: None,
    help: "Where the Mimir server is.",
};

static SECRET_SETTING: Setting = Setting {
    name: "enrollment secret",
    flag: None,
    variables: &[SECRET, "MONSYS_TOKEN"],
    key: None,
    default: None,
    help: "The shared secret. `--token-file` and `--token-command` give it as well, and `--enrollment-secret`, which is taken out of the command line at once.",
};

static FOLDER_SETTING: Setting = Setting {
    name: "folder",
    flag: None,
    variables: &[FOLDER],
    key: None,
    default: Some(DEFAULT_FOLDER),
    help: "Where key and certificates are put.",
};

/// The settings that only this system has.
pub(super) static SETTINGS: &[&Setting] = &[&SERVER_URL, &SECRET_SETTING, &FOLDER_SETTING];

/// Whether what only Mimir's hosts have says that it is meant.
pub(super) fn is_meant(world: &World) -> bool {
    world.secret(SECRET).is_some() || world.env(SERVER).is_some()
}

/// This host, as it stands to a Mimir server.
pub struct Mimir<'a> {
    flags: &'a Flags,
    world: &'a World,
    settings: Settings,
    has_server: bool,
    host: Host,
}

impl<'a> Mimir<'a> {
    /// Reads the settings, and what the host has.
    ///
    /// # Errors
    /// A bad setting, and notes that cannot be read.
    pub fn read(flags: &'a Flags, world: &'a World) -> Result<Self> {
        let folder = folder(flags, world)?;
        let host = Host::read(world.path(&folder), world)?;
        let mut given = flags.clone();
        // What an enrolment was given holds until something else is.
        if world.env("MONSYS_CA_PIN").is_none() && given.ca_pin.is_none() {
            given.ca_pin.clone_from(&host.notes.ca_pin);
        }
        let own = |server: Option<String>| SystemSettings {
            hub_url: &SERVER_URL,
            hub_url_in_file: server,
            file: folder.join(NOTES),
            folder: folder.clone(),
            secrets: &[SECRET],
            secret_in_file: None,
        };
        let known = host.notes.server_url.clone();
        let has_server = known.is_some()
            || flags.hub_url.as_ref().is_some_and(|url| !url.is_empty())
            || SERVER_URL
                .variables
                .iter()
                .any(|name| world.env(name).is_some());
        let server = known.or_else(|| Some(NO_SERVER.to_owned()));
        let mut settings = Settings::of_system(&given, world, own(server))?;
        if settings.ca_file.is_none()
            && let Some(kept) = &host.notes.ca_file
        {
            // One that the operator had beside the host's tree is where it was.
            let below = Some(world.path(kept)).filter(|path| path.exists());
            settings.ca_file = Some(Given {
                value: below.unwrap_or_else(|| kept.clone()),
                origin: Origin::Key("ca_file", folder.join(NOTES)),
            });
        }
        Ok(Self {
            flags,
            world,
            settings,
            has_server,
            host,
        })
    }

    fn standing(&self) -> Result<Standing> {
        self.host.standing(self.world.now())
    }

    /// A host that is asked to be enrolled at another server than its own says so.
    fn refuse_other_server(&self) -> Result<()> {
        let asked = &self.settings.hub_url;
        match &self.host.notes.server_url {
            Some(own) if asked.origin.is_asked() && *own != asked.value.to_string() => {
                Err(Error::new(
                    ErrorId::OtherHub,
                    format!("its certificate is from {own}"),
                )
                .about(&asked.value)
                .mend("to move the host: monsys-agent enrol --force, with the new server's secret; to keep it: leave the server's URL out"))
            }
            _ => Ok(()),
        }
    }
}

fn folder(flags: &Flags, world: &World) -> Result<PathBuf> {
    let (given, origin) = match flags.state_dir.as_ref().filter(|dir| !dir.is_empty()) {
        Some(dir) => (PathBuf::from(dir), Origin::Flag("--state-dir")),
        None => match world.env(FOLDER) {
            Some(dir) => (PathBuf::from(dir), Origin::Variable(FOLDER)),
            None => (PathBuf::from(DEFAULT_FOLDER), Origin::Default),
        },
    };
    std::path::absolute(given).map_err(|error| {
        Error::new(ErrorId::BadSetting, format!("it is no path: {error}")).about(origin)
    })
}

fn no_secret() -> Error {
    Error::new(ErrorId::TokenMissing, "this host has no client certificate").mend(
        "set MIMIR_ENROLLMENT_SECRET, or use --token-file PATH, --token-file - or --token-command CMD",
    )
}

impl Dialect for Mimir<'_> {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn takes_secret(&self, force: bool) -> Result<bool> {
        let standing = self.standing()?;
        Ok(force || !matches!(standing, Standing::Enrolled | Standing::Unproved))
    }

    fn read_secret(&self, text: &str, source: &TokenSource) -> Result<Token> {
        Token::shared(text, source)
    }

    fn plan(&self, secret: Option<Kind>, force: bool) -> Result<Plan> {
        let standing = self.standing()?;
        if !force {
            match standing {
                Standing::Enrolled | Standing::Unproved => self.refuse_other_server()?,
                _ => {}
            }
            match standing {
                Standing::Enrolled if self.host.files.has_leftovers() => return Ok(Plan::Repair),
                Standing::Enrolled => return Ok(Plan::Nothing),
                Standing::Unproved => return Ok(Plan::Ask),
                _ => {}
            }
        }
        if !self.has_server {
            return Err(
                Error::new(ErrorId::BadHubUrl, "none is given, and there is no default")
                    .mend("give it with --hub-url URL, or as MIMIR_SERVER_URL"),
            );
        }
        if secret.is_none() {
            return Err(no_secret());
        }
        Ok(Plan::Ask)
    }

    fn folders(&self) -> Vec<Folder> {
        vec![Folder {
            name: "Mimir's folder",
            path: self.host.files.folder().to_owned(),
            mode: 0o755,
            fault: ErrorId::StateUnwritable,
        }]
    }

    fn lock_name(&self) -> &'static str {
        LOCK
    }

    fn settle(&mut self, _limit: Limit) -> Later<'_, ()> {
        Box::pin(async { self.host.files.sweep() })
    }

    fn prove_writable(&self) -> Result<()> {
        self.host.files.prove_writable()
    }

    fn exchange<'a>(
        &'a self,
        secret: Option<&'a Token>,
        force: bool,
        _limit: Limit,
    ) -> Later<'a, Box<dyn Exchange + 'a>> {
        Box::pin(async move {
            let host = Host::read(self.host.files.folder().to_owned(), self.world)?;
            let asking = Asking::prepare(&self.settings, self.world, host, secret, force)?;
            Ok(Box::new(asking) as Box<dyn Exchange + 'a>)
        })
    }

    fn repair(&self) -> Result<bool> {
        // `settle` has removed what was left over, and there is nothing else.
        Ok(false)
    }

    fn enrolled(&self) -> Result<Enrolment> {
        Ok(Enrolment {
            done: Done::AlreadyEnrolled,
            hub_url: self.host.notes.server_url.clone().unwrap_or_default(),
            hostname: None,
            changed: false,
            holds: asking::held(&self.host)?,
            scrubbed: Vec::new(),
        })
    }

    fn facts(&self, facts: &HostFacts) -> Vec<(&'static str, Value)> {
        vec![("hostname", json!(facts.hostname))]
    }

    fn preview(
        &self,
        secret: Option<Kind>,
        force: bool,
        facts: &HostFacts,
    ) -> Result<Option<Preview>> {
        if self.plan(secret.or(Some(Kind::Enrolment)), force)? != Plan::Ask {
            return Ok(None);
        }
        let key = match self.host.key()? {
            Some(_) if self.standing()? != Standing::Clone => "this host's own",
            Some(_) => "a new one: what is on this disk is another machine's",
            None => "a new one",
        };
        let folder = self.host.files.folder();
        Ok(Some(Preview {
            url: self.settings.hub_url.value.join(wire::ENROLL).to_string(),
            path: wire::ENROLL,
            body: json!({"hostname": facts.hostname}),
            rows: vec![
                ("key", key.into()),
                ("folder", folder.display().to_string()),
            ],
            json: json!({"folder": folder}),
        }))
    }

    fn status(&self) -> Result<Account> {
        status::account(&self.host, self.world)
    }

    fn checks(&self) -> Vec<Check> {
        status::checks(self)
    }

    fn without_secret(&self) -> Check {
        match self.standing() {
            Ok(Standing::Enrolled | Standing::Unproved) => {
                Check::good("token", "a host with a certificate needs none")
            }
            Ok(_) => Check::bad("token", &no_secret()),
            Err(_) => Check::skipped("token", "it is not known whether this host is enrolled"),
        }
    }

    fn service_environment(&self) -> Vec<(&'static str, String)> {
        let folder = &self.settings.state_dir.value;
        if folder == Path::new(DEFAULT_FOLDER) {
            return Vec::new();
        }
        vec![(FOLDER, folder.to_string_lossy().into_owned())]
    }

    fn serve(&self) -> Later<'_, ()> {
        Box::pin(renewal::serve(self.flags, self.world))
    }
}
