//! The keys of `agent.toml` that the agent knows, and their types.

use std::ops::Range;

use secrecy::SecretString;
use toml_edit::{Item, Key, Table, Value};

/// The keys that the agent knows. Other keys belong to the user.
#[derive(Clone, Debug, Default)]
pub struct FileSettings {
    /// The key `hub_url`.
    pub hub_url: Option<String>,
    /// The key `agent_id`.
    pub agent_id: Option<String>,
    /// The key `agent_token`. It is checked later, by the kind of secret that it has to be.
    pub(super) agent_token: Option<SecretString>,
    /// The key `tags`.
    pub tags: Option<Vec<String>>,
    /// The key `role`.
    pub role: Option<String>,
    /// The key `token_file`.
    pub token_file: Option<String>,
    /// The key `token_command`.
    pub token_command: Option<String>,
    /// The key `ca_file`.
    pub ca_file: Option<String>,
    /// The key `ca_pin`.
    pub ca_pin: Option<String>,
    /// The key `https_proxy`.
    pub https_proxy: Option<String>,
    /// The key `no_proxy`.
    pub no_proxy: Option<String>,
    /// The key `allow_http`.
    pub allow_http: Option<bool>,
    /// The key `state_dir`.
    pub state_dir: Option<String>,
    /// The key `host_hostname_file`.
    pub host_hostname_file: Option<String>,
    /// The key `host_os_release_file`.
    pub host_os_release_file: Option<String>,
    /// The key `wait`.
    pub wait: Option<String>,
    /// The key `splay`.
    pub splay: Option<String>,
    /// The key `scrub_cloud_init`.
    pub scrub_cloud_init: Option<String>,
    /// The key `readmission_interval`.
    pub readmission_interval: Option<String>,
}

/// Names of these keys.
pub const KNOWN_KEYS: [&str; 19] = [
    "hub_url",
    "agent_id",
    "agent_token",
    "tags",
    "role",
    "token_file",
    "token_command",
    "ca_file",
    "ca_pin",
    "https_proxy",
    "no_proxy",
    "allow_http",
    "state_dir",
    "host_hostname_file",
    "host_os_release_file",
    "wait",
    "splay",
    "scrub_cloud_init",
    "readmission_interval",
];

/// A key with a value of the wrong type.
pub(super) struct WrongType {
    /// The key and its type, without the value, which may be a secret.
    pub(super) message: String,
    /// The place in the text, in bytes.
    pub(super) span: Option<Range<usize>>,
}

type Result<T> = std::result::Result<T, WrongType>;

impl FileSettings {
    /// Takes the keys that the agent knows out of a parsed file.
    pub(super) fn take(mut from: Table) -> Result<Self> {
        let from = &mut from;
        Ok(Self {
            hub_url: text(from, "hub_url")?,
            agent_id: text(from, "agent_id")?,
            agent_token: text(from, "agent_token")?.map(SecretString::from),
            tags: texts(from, "tags")?,
            role: text(from, "role")?,
            token_file: text(from, "token_file")?,
            token_command: text(from, "token_command")?,
            ca_file: text(from, "ca_file")?,
            ca_pin: text(from, "ca_pin")?,
            https_proxy: text(from, "https_proxy")?,
            no_proxy: text(from, "no_proxy")?,
            allow_http: flag(from, "allow_http")?,
            state_dir: text(from, "state_dir")?,
            host_hostname_file: text(from, "host_hostname_file")?,
            host_os_release_file: text(from, "host_os_release_file")?,
            wait: duration(from, "wait")?,
            splay: duration(from, "splay")?,
            scrub_cloud_init: text(from, "scrub_cloud_init")?,
            readmission_interval: duration(from, "readmission_interval")?,
        })
    }
}

fn text(from: &mut Table, key: &str) -> Result<Option<String>> {
    match value(from, key) {
        None => Ok(None),
        Some((_, Some(Value::String(text)))) => Ok(Some(text.into_value())),
        Some((place, _)) => Err(wrong(&place, "a string in quotes")),
    }
}

fn texts(from: &mut Table, key: &str) -> Result<Option<Vec<String>>> {
    const TYPE: &str = r#"an array of strings, such as ["prod", "web"]"#;
    match value(from, key) {
        None => Ok(None),
        Some((place, Some(Value::Array(list)))) => {
            let text = |value| match value {
                Value::String(text) => Ok(text.into_value()),
                other => Err(WrongType {
                    span: other.span(),
                    ..wrong(&place, TYPE)
                }),
            };
            list.into_iter().map(text).collect::<Result<_>>().map(Some)
        }
        Some((place, _)) => Err(wrong(&place, TYPE)),
    }
}

fn flag(from: &mut Table, key: &str) -> Result<Option<bool>> {
    match value(from, key) {
        None => Ok(None),
        Some((_, Some(Value::Boolean(flag)))) => Ok(Some(flag.into_value())),
        Some((place, _)) => Err(wrong(&place, "true or false, without quotes")),
    }
}

/// Returns the text of a duration, such as `"90s"`. A bare number of seconds is its text.
fn duration(from: &mut Table, key: &str) -> Result<Option<String>> {
    match value(from, key) {
        None => Ok(None),
        Some((_, Some(Value::String(text)))) => Ok(Some(text.into_value())),
        Some((_, Some(Value::Integer(seconds)))) => Ok(Some(seconds.value().to_string())),
        Some((place, _)) => Err(wrong(
            &place,
            r#"a duration, such as "90s", or a number of seconds"#,
        )),
    }
}

/// Takes a key out of the table: its place, and its value unless it is a table.
fn value(from: &mut Table, key: &str) -> Option<(Key, Option<Value>)> {
    match from.remove_entry(key)? {
        (place, Item::Value(value)) => Some((place, Some(value))),
        (place, _) => Some((place, None)),
    }
}

/// Returns the error at the line of the key, where its value begins too.
fn wrong(key: &Key, of_type: &str) -> WrongType {
    WrongType {
        message: format!("`{}` has to be {of_type}", key.get()),
        span: key.span(),
    }
}
