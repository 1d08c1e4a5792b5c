//! One reader for each kind of setting, with messages that name where a bad value came from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::table::{self, Setting};
use super::{CaFile, CaPin, HubUrl, ProxySettings};
use crate::environment::Environment;
use crate::error::{Error, ErrorId, Result};
use crate::flags::Flags;
use crate::plain::{absolute_path, refuse_control};
use crate::sourced::{Source, Sourced};
use crate::store::agent_toml::FileSettings;
use crate::tags;

/// The first of flag, environment, file and default that is given and not empty.
pub(super) fn resolve_one(
    setting: &'static Setting,
    flag: Option<&str>,
    key: Option<(&str, &Path)>,
    environment: &Environment,
) -> Result<Sourced<String>> {
    let given = |value: &str, source| Sourced {
        value: value.to_owned(),
        source,
    };
    if let Some(value) = flag.filter(|value| !value.is_empty()) {
        return Ok(given(value, Source::Flag(setting.flag.unwrap_or_default())));
    }
    for name in setting.variables {
        if let Some(value) = environment.env(name) {
            let source = Source::Variable(name);
            return match value.to_str() {
                Some(value) => Ok(given(value, source)),
                None => Err(Error::new(ErrorId::BadSetting, "it is not UTF-8").about(source)),
            };
        }
    }
    if let (Some((value, path)), Some(name)) = (key, setting.key)
        && !value.is_empty()
    {
        return Ok(given(value, Source::Key(name, path.into())));
    }
    Ok(given(setting.default.unwrap_or_default(), Source::Default))
}

pub(super) fn absolute(given: &Sourced<String>) -> Result<PathBuf> {
    absolute_path(given.value.as_ref(), &given.source)
}

/// Reads one setting after the other.
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

    /// Like `pick`, for settings that have no default.
    fn resolve_optional(
        &self,
        setting: &'static Setting,
        flag: Option<&str>,
        key: Option<&str>,
    ) -> Result<Option<Sourced<String>>> {
        let given = self.resolve_one(setting, flag, key)?;
        Ok((given.source != Source::Default).then_some(given))
    }

    /// The hub, and whether plain http may reach it.
    pub(super) fn hub(
        &self,
        setting: &'static Setting,
        flags: &Flags,
    ) -> Result<(Sourced<HubUrl>, Sourced<bool>)> {
        let allow_http = self.allow_http(flags.allow_http)?;
        let flag = flags.hub_url.as_deref();
        let given = self.resolve_one(setting, flag, self.keys.hub_url.as_deref())?;
        if given.value.is_empty() {
            let names = setting.flag.iter().chain(setting.variables);
            let names: Vec<&str> = names.copied().collect();
            return Err(
                Error::new(ErrorId::BadHubUrl, "none is given, and there is no default")
                    .hint(format!("give it as one of: {}", names.join(", "))),
            );
        }
        let value = HubUrl::parse(&given.value, allow_http.value, &given.source)?;
        let source = given.source;
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
        match role
            .as_ref()
            .and_then(|role| Some((role, tags::role_fault(&role.value)?)))
        {
            Some((role, fault)) => Err(Error::new(ErrorId::BadRole, fault).about(&role.source)),
            None => Ok(role),
        }
    }

    pub(super) fn ca_file(&self, flags: &Flags) -> Result<Option<CaFile>> {
        let Some(given) = self.resolve_optional(
            &table::CA_FILE,
            flags.ca_file.as_deref(),
            self.keys.ca_file.as_deref(),
        )?
        else {
            return Ok(None);
        };
        // What the operator types is a path of the shell that they type it in; what agent.toml
        // names is a path of the host.
        let value = match given.source {
            Source::Key(..) => {
                refuse_control(&given.value, &given.source)?;
                let path = self.environment.resolved_path(&given.value);
                self.environment.refuse_foreign_file(&path)?;
                path
            }
            _ => absolute(&given)?,
        };
        Ok(Some(CaFile::new(value, given.source)))
    }

    pub(super) fn ca_pin(&self, flags: &Flags) -> Result<Option<Sourced<CaPin>>> {
        let Some(given) = self.resolve_optional(
            &table::CA_PIN,
            flags.ca_pin.as_deref(),
            self.keys.ca_pin.as_deref(),
        )?
        else {
            return Ok(None);
        };
        match parse_pin(given.value.trim()) {
            Some(value) => Ok(Some(Sourced {
                value,
                source: given.source,
            })),
            None => Err(Error::new(
                ErrorId::BadSetting,
                "a pin is `sha256:` and 64 hexadecimal digits",
            )
            .about(&given.source)
            .hint("take it from the hub; or: openssl x509 -in ca.pem -noout -pubkey | openssl pkey -pubin -outform der | sha256sum")),
        }
    }

    pub(super) fn proxy(&self) -> Result<Option<Sourced<ProxySettings>>> {
        let Some(given) =
            self.resolve_optional(&table::PROXY, None, self.keys.https_proxy.as_deref())?
        else {
            return Ok(None);
        };
        let text = given.value.trim();
        refuse_control(text, &given.source)?;
        let text = if text.contains("://") {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        let url = reqwest::Url::parse(&text)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some())
            .ok_or_else(|| {
                Error::new(
                    ErrorId::BadSetting,
                    "a proxy is http://[USER:PASSWORD@]HOST:PORT or https://…",
                )
                .about(&given.source)
            })?;
        let bypass =
            self.resolve_optional(&table::NO_PROXY, None, self.keys.no_proxy.as_deref())?;
        if let Some(bypass) = &bypass {
            refuse_control(&bypass.value, &bypass.source)?;
        }
        Ok(Some(Sourced {
            value: ProxySettings {
                url,
                bypass: bypass.map(|given| given.value),
            },
            source: given.source,
        }))
    }

    pub(super) fn allow_http(&self, flag: bool) -> Result<Sourced<bool>> {
        if flag {
            return Ok(Sourced {
                value: true,
                source: Source::Flag("--allow-http"),
            });
        }
        if let Some(given) = self.resolve_optional(&table::ALLOW_HTTP, None, None)? {
            let value = yes_or_no(&given.value).ok_or_else(|| {
                Error::new(ErrorId::BadSetting, "it takes true or false").about(&given.source)
            })?;
            return Ok(Sourced {
                value,
                source: given.source,
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
        let given = self.resolve_one(
            &table::SCRUB,
            flags.scrub_cloud_init.as_deref(),
            self.keys.scrub_cloud_init.as_deref(),
        )?;
        if given.value.trim().eq_ignore_ascii_case("auto") {
            return Ok(None);
        }
        match yes_or_no(&given.value) {
            Some(value) => Ok(Some(value)),
            None => {
                Err(Error::new(ErrorId::BadSetting, "it takes yes, no or auto")
                    .about(&given.source))
            }
        }
    }

    pub(super) fn duration(
        &self,
        setting: &'static Setting,
        flag: Option<&str>,
        key: Option<&str>,
    ) -> Result<Sourced<Duration>> {
        const LONGEST: Duration = Duration::from_hours(30 * 24);
        let given = self.resolve_one(setting, flag, key)?;
        let text = given.value.trim();
        let parsed = match text.parse::<u64>() {
            Ok(seconds) => Ok(Duration::from_secs(seconds)),
            Err(_) => humantime::parse_duration(text).map_err(|error| error.to_string()),
        };
        let fault = match parsed {
            Ok(value) if value <= LONGEST => {
                return Ok(Sourced {
                    value,
                    source: given.source,
                });
            }
            Ok(_) => "it is longer than 30 days".into(),
            Err(fault) => fault,
        };
        Err(Error::new(
            ErrorId::BadSetting,
            format!("{text:?} is no duration: {fault}"),
        )
        .about(&given.source)
        .hint("give it as 90s, 5m or 1h30m"))
    }
}

fn yes_or_no(text: &str) -> Option<bool> {
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
