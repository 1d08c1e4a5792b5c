//! One reader for each kind of setting. Its messages name the source of a bad value.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::table::{self, Setting};
use super::{CaFile, CaPin, HubUrl};
use crate::environment::Environment;
use crate::error::{Error, ErrorId, Result};
use crate::flags::Flags;
use crate::plain::{absolute_path, given, refuse_control};
use crate::sourced::{Source, Sourced};
use crate::store::agent_toml::FileSettings;
use crate::tags;

/// Returns the first non-empty value of flag, environment, file and default.
pub(super) fn resolve_one(
    setting: &'static Setting,
    flag: Option<&str>,
    key: Option<(&str, &Path)>,
    environment: &Environment,
) -> Result<Sourced<String>> {
    let sourced = |value: &str, source| Sourced {
        value: value.to_owned(),
        source,
    };
    if let Some(value) = given(flag) {
        return Ok(sourced(
            value,
            Source::Flag(setting.flag.unwrap_or_default()),
        ));
    }
    for name in setting.variables {
        if let Some(value) = environment.env(name) {
            let source = Source::Variable(name);
            return match value.to_str() {
                Some(value) => Ok(sourced(value, source)),
                None => {
                    Err(Error::new(ErrorId::BadSetting, "the value is not UTF-8").about(source))
                }
            };
        }
    }
    if let (Some((value, path)), Some(name)) = (key, setting.key)
        && given(Some(value)).is_some()
    {
        return Ok(sourced(value, Source::Key(name, path.into())));
    }
    Ok(sourced(
        setting.default.unwrap_or_default(),
        Source::Default,
    ))
}

pub(super) fn absolute(sourced: &Sourced<String>) -> Result<PathBuf> {
    absolute_path(sourced.value.as_ref(), &sourced.source)
}

impl Setting {
    /// Returns the value of a dialect's own setting, from its flag, variable or default. An empty value
    /// counts as not set.
    ///
    /// # Errors
    /// [`ErrorId::BadSetting`] for a variable that is not UTF-8.
    pub fn resolve_one(
        &'static self,
        flag: Option<&str>,
        environment: &Environment,
    ) -> Result<Option<String>> {
        let sourced = resolve_one(self, flag, None, environment)?;
        Ok(Some(sourced.value).filter(|value| !value.is_empty()))
    }

    /// Returns the absolute path in a dialect's own setting, from its flag, variable or default.
    ///
    /// # Errors
    /// [`ErrorId::BadSetting`] for an invalid path, with its source.
    pub fn resolve_path(
        &'static self,
        flag: Option<&str>,
        environment: &Environment,
    ) -> Result<PathBuf> {
        absolute(&resolve_one(self, flag, None, environment)?)
    }
}

/// Reads settings from the environment and from the keys of the file at `path`.
pub(super) struct Reader<'a> {
    pub(super) environment: &'a Environment,
    pub(super) keys: &'a FileSettings,
    pub(super) path: &'a Path,
}

impl Reader<'_> {
    pub(super) fn resolve_one(
        &self,
        setting: &'static Setting,
        flag: Option<&str>,
        key: Option<&str>,
    ) -> Result<Sourced<String>> {
        resolve_one(
            setting,
            flag,
            key.map(|value| (value, self.path)),
            self.environment,
        )
    }

    /// Resolves a setting that has no default.
    pub(super) fn resolve_optional(
        &self,
        setting: &'static Setting,
        flag: Option<&str>,
        key: Option<&str>,
    ) -> Result<Option<Sourced<String>>> {
        let sourced = self.resolve_one(setting, flag, key)?;
        Ok((sourced.source != Source::Default).then_some(sourced))
    }

    /// Returns the hub's URL, and true when plain http may be used for it.
    pub(super) fn hub(
        &self,
        setting: &'static Setting,
        flags: &Flags,
    ) -> Result<(Sourced<HubUrl>, Sourced<bool>)> {
        let allow_http = self.allow_http(flags.allow_http)?;
        let flag = flags.hub_url.as_deref();
        let sourced = self.resolve_one(setting, flag, self.keys.hub_url.as_deref())?;
        if sourced.value.is_empty() {
            let names = setting.flag.iter().chain(setting.variables);
            let names: Vec<&str> = names.copied().collect();
            return Err(
                Error::new(ErrorId::BadHubUrl, "no URL is set, and there is no default")
                    .hint(format!("set one of: {}", names.join(", "))),
            );
        }
        let value = HubUrl::parse(&sourced.value, allow_http.value, &sourced.source)?;
        let source = sourced.source;
        Ok((Sourced { value, source }, allow_http))
    }

    pub(super) fn tags(&self, flags: &Flags) -> Result<Sourced<Vec<String>>> {
        let check = |raw: Vec<String>, source: Source| {
            let value = tags::own_tags(&raw, &source)?;
            Ok(Sourced { value, source })
        };
        let from_list = flags.tags.as_deref().map(tags::split).unwrap_or_default();
        for (raw, name) in [(&flags.tag, "--tag"), (&from_list, "--tags")] {
            check(raw.clone(), Source::Flag(name))?;
        }
        let both = check(
            [flags.tag.clone(), from_list].concat(),
            Source::Flag("--tag"),
        )?;
        if !both.value.is_empty() {
            return Ok(both);
        }
        if let Some(list) = self.resolve_optional(&table::TAGS, None, None)? {
            let variable = check(tags::split(&list.value), list.source)?;
            if !variable.value.is_empty() {
                return Ok(variable);
            }
        }
        match &self.keys.tags {
            Some(tags) if !tags.is_empty() => {
                check(tags.clone(), Source::Key("tags", self.path.into()))
            }
            _ => check(Vec::new(), Source::Default),
        }
    }

    pub(super) fn role(&self, flags: &Flags) -> Result<Option<Sourced<String>>> {
        let role = self.resolve_optional(
            &table::ROLE,
            flags.role.as_deref(),
            self.keys.role.as_deref(),
        )?;
        let role = role.map(|role| Sourced {
            value: role.value.trim().to_owned(),
            source: role.source,
        });
        match role
            .as_ref()
            .and_then(|role| Some((role, tags::role_fault(&role.value)?)))
        {
            Some((role, cause)) => Err(Error::new(ErrorId::BadRole, cause).about(&role.source)),
            None => Ok(role),
        }
    }

    pub(super) fn ca_file(&self, flags: &Flags) -> Result<Option<CaFile>> {
        let Some(sourced) = self.resolve_optional(
            &table::CA_FILE,
            flags.ca_file.as_deref(),
            self.keys.ca_file.as_deref(),
        )?
        else {
            return Ok(None);
        };
        // A path in a flag or variable is a path of the operator's shell; a path in agent.toml is a path
        // of the host.
        let value = match sourced.source {
            Source::Key(..) => {
                refuse_control(&sourced.value, &sourced.source)?;
                let path = self.environment.resolved_path(&sourced.value);
                self.environment.refuse_foreign_file(&path)?;
                path
            }
            _ => absolute(&sourced)?,
        };
        Ok(Some(CaFile::new(value, sourced.source)))
    }

    pub(super) fn ca_pin(&self, flags: &Flags) -> Result<Option<Sourced<CaPin>>> {
        let Some(sourced) = self.resolve_optional(
            &table::CA_PIN,
            flags.ca_pin.as_deref(),
            self.keys.ca_pin.as_deref(),
        )?
        else {
            return Ok(None);
        };
        match parse_pin(sourced.value.trim()) {
            Some(value) => Ok(Some(Sourced {
                value,
                source: sourced.source,
            })),
            None => Err(Error::new(
                ErrorId::BadSetting,
                "a pin is `sha256:` and 64 hexadecimal digits",
            )
            .about(&sourced.source)
            .hint("copy the pin from the hub; or compute it: openssl x509 -in ca.pem -noout -pubkey | openssl pkey -pubin -outform der | sha256sum")),
        }
    }

    pub(super) fn allow_http(&self, flag: bool) -> Result<Sourced<bool>> {
        if flag {
            return Ok(Sourced {
                value: true,
                source: Source::Flag("--allow-http"),
            });
        }
        if let Some(sourced) = self.resolve_optional(&table::ALLOW_HTTP, None, None)? {
            let value = boolean(&sourced.value).ok_or_else(|| {
                Error::new(ErrorId::BadSetting, "the value has to be true or false")
                    .about(&sourced.source)
            })?;
            return Ok(Sourced {
                value,
                source: sourced.source,
            });
        }
        Ok(match self.keys.allow_http {
            Some(value) => Sourced {
                value,
                source: Source::Key("allow_http", self.path.into()),
            },
            None => Sourced {
                value: false,
                source: Source::Default,
            },
        })
    }

    pub(super) fn scrub_cloud_init(&self, flags: &Flags) -> Result<Option<bool>> {
        let sourced = self.resolve_one(
            &table::SCRUB,
            flags.scrub_cloud_init.as_deref(),
            self.keys.scrub_cloud_init.as_deref(),
        )?;
        if sourced.value.trim().eq_ignore_ascii_case("auto") {
            return Ok(None);
        }
        match boolean(&sourced.value) {
            Some(value) => Ok(Some(value)),
            None => Err(
                Error::new(ErrorId::BadSetting, "the value has to be yes, no or auto")
                    .about(&sourced.source),
            ),
        }
    }

    pub(super) fn duration(
        &self,
        setting: &'static Setting,
        flag: Option<&str>,
        key: Option<&str>,
    ) -> Result<Sourced<Duration>> {
        const LONGEST: Duration = Duration::from_hours(30 * 24);
        let sourced = self.resolve_one(setting, flag, key)?;
        let text = sourced.value.trim();
        let parsed = match text.parse::<u64>() {
            Ok(seconds) => Ok(Duration::from_secs(seconds)),
            Err(_) => humantime::parse_duration(text).map_err(|error| error.to_string()),
        };
        let cause = match parsed {
            Ok(value) if value <= LONGEST => {
                return Ok(Sourced {
                    value,
                    source: sourced.source,
                });
            }
            Ok(_) => "the longest is 30 days".into(),
            Err(cause) => cause,
        };
        Err(Error::new(
            ErrorId::BadSetting,
            format!("`{text}` is not a valid duration: {cause}"),
        )
        .about(&sourced.source)
        .hint("write it as 90s, 5m or 1h30m"))
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

pub(super) fn parse_pin(text: &str) -> Option<CaPin> {
    let hex = text.strip_prefix("sha256:")?;
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    let mut pin = [0; 32];
    for (byte, digits) in pin.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(CaPin(pin))
}
