//! The settings of the command line, before any check.

use std::collections::BTreeMap;

use crate::plain::given;

/// Settings of the command line, before any check. `None` means that the flag is absent.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--config`
    pub config: Option<String>,
    /// `--state-dir`
    pub state_dir: Option<String>,
    /// `--hub-url`
    pub hub_url: Option<String>,
    /// `--token-file`
    pub token_file: Option<String>,
    /// `--token-command`
    pub token_command: Option<String>,
    /// `--tag`, repeated
    pub tag: Vec<String>,
    /// `--tags`
    pub tags: Option<String>,
    /// `--role`
    pub role: Option<String>,
    /// `--ca-file`
    pub ca_file: Option<String>,
    /// `--ca-pin`
    pub ca_pin: Option<String>,
    /// `--allow-http`
    pub allow_http: bool,
    /// `--wait`
    pub wait: Option<String>,
    /// `--splay`
    pub splay: Option<String>,
    /// `--offline`
    pub offline: bool,
    /// `--scrub-cloud-init`
    pub scrub_cloud_init: Option<String>,
    /// `--dialect`: the name of a dialect.
    pub dialect: Option<String>,
    /// Flags of one dialect alone, by their names with dashes; the value of a switch is empty.
    pub own: BTreeMap<&'static str, String>,
}

impl Flags {
    /// Returns the value of a flag that only one dialect has, by its name with dashes.
    #[must_use]
    pub fn own(&self, name: &str) -> Option<&str> {
        self.own.get(name).map(String::as_str)
    }

    /// Returns the flag that gives the setting of this flag on this command line: `--tag` adds to `--tags`.
    #[must_use]
    pub fn given(&self, flag: &'static str) -> Option<&'static str> {
        let value = match flag {
            "--tags" if !self.tag.is_empty() => return Some("--tag"),
            "--tags" => &self.tags,
            "--role" => &self.role,
            "--config" => &self.config,
            "--state-dir" => &self.state_dir,
            _ => return None,
        };
        given(value.as_deref()).map(|_| flag)
    }
}
