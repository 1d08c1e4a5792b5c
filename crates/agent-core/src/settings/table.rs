//! The table of all settings. `docs/configuration.md` is generated from it.

use std::path::PathBuf;

use super::reader;
use crate::environment::Environment;
use crate::error::Result;

/// One setting: its flag, variables, key and default.
pub struct Setting {
    /// What it is, as the documentation heads it.
    pub name: &'static str,
    /// Flag, with its dashes.
    pub flag: Option<&'static str>,
    /// Environment variables, the first one that is set wins.
    pub variables: &'static [&'static str],
    /// Key in `agent.toml`.
    pub key: Option<&'static str>,
    /// Built-in default.
    pub default: Option<&'static str>,
    /// What it means, in a sentence or two.
    pub help: &'static str,
}

impl Setting {
    /// What a system's own setting is, by flag, variable or default. An empty one is not given.
    ///
    /// # Errors
    /// A variable that is not UTF-8.
    pub fn resolve_one(
        &'static self,
        flag: Option<&str>,
        environment: &Environment,
    ) -> Result<Option<String>> {
        let given = reader::resolve_one(self, flag, None, environment)?;
        Ok(Some(given.value).filter(|value| !value.is_empty()))
    }

    /// The absolute path that a system's own setting names, by flag, variable or default.
    ///
    /// # Errors
    /// What is not a valid path, with the name of its source.
    pub fn resolve_path(
        &'static self,
        flag: Option<&str>,
        environment: &Environment,
    ) -> Result<PathBuf> {
        reader::absolute(&reader::resolve_one(self, flag, None, environment)?)
    }
}

macro_rules! table {
    ($($id:ident: $name:literal, $flag:expr, [$($variable:literal),*], $key:expr, $default:expr, $help:literal;)*) => {
        $(#[doc = concat!("The setting: ", $name, ".")] pub static $id: Setting = Setting {
            name: $name,
            flag: $flag,
            variables: &[$($variable),*],
            key: $key,
            default: $default,
            help: $help,
        };)*
        /// Every setting, in the order of the documentation.
        pub static TABLE: &[&Setting] = &[$(&$id,)*];
    };
}

table! {
    HUB_URL: "hub", Some("--hub-url"), ["MONSYS_HUB_URL"], Some("hub_url"), Some("https://api.monsys.ai"),
        "Where the hub is: https, without user name, password or query. A path before `/api` is kept.";
    DIALECT: "dialect", Some("--dialect"), ["MONSYS_DIALECT"], None, Some("monsys"),
        "Which system the host enrols into. The others have settings of their own, which `docs/dialects` tells.";
    TOKEN: "token", None, ["MONSYS_TOKEN"], None, None,
        "The secret itself. There is no flag for it: every user of a host can read a process's arguments.";
    TOKEN_FILE: "token file", Some("--token-file"), ["MONSYS_TOKEN_FILE"], Some("token_file"), None,
        "File that holds the token; `-` as the flag's value is standard input. Without any of these, the systemd credential `monsys-token` is taken when there is one.";
    TOKEN_COMMAND: "token command", Some("--token-command"), [], Some("token_command"), None,
        "Command whose standard output is the token; run by `/bin/sh -c` when the token is needed, without MONSYS_TOKEN in its environment.";
    TAGS: "tags", Some("--tags"), ["MONSYS_TAGS"], Some("tags"), None,
        "The host's own tags, comma separated; `--tag T` adds one and can be repeated; the key takes an array. Each 1 to 128 characters, at most 64.";
    ROLE: "role", Some("--role"), ["MONSYS_ROLE"], Some("role"), None,
        "The host's role. It wins over the default role of the token.";
    CA_FILE: "private CA", Some("--ca-file"), ["MONSYS_CA_FILE"], Some("ca_file"), None,
        "PEM file of CA certificates: then the only ones trusted. Otherwise the built-in Mozilla roots are, and the system's store when those do not know the chain. A regular file of at most 1 MiB; the flag and the variable may name a pipe as well, which has to end before the deadline.";
    CA_PIN: "CA pin", Some("--ca-pin"), ["MONSYS_CA_PIN"], Some("ca_pin"), None,
        "`sha256:HEX` of the public key (SPKI) of a CA: the chain must lead to it. Enough alone when the hub sends that CA along.";
    PROXY: "proxy", None, ["HTTPS_PROXY", "https_proxy"], Some("https_proxy"), None,
        "Proxy for https: `http://[USER:PASSWORD@]HOST:PORT`.";
    NO_PROXY: "past the proxy", None, ["NO_PROXY", "no_proxy"], Some("no_proxy"), None,
        "Hosts and networks reached without the proxy, comma separated.";
    ALLOW_HTTP: "plain http", Some("--allow-http"), ["MONSYS_ALLOW_HTTP"], Some("allow_http"), Some("false"),
        "Allows plain http to hosts other than a loopback address: the token then travels in the clear.";
    CONFIG: "config path", Some("--config"), ["MONSYS_CONFIG"], None, Some("/etc/monsys/agent.toml"),
        "Where `agent.toml` is.";
    STATE_DIR: "state directory", Some("--state-dir"), ["MONSYS_STATE_DIR"], Some("state_dir"), Some("/var/lib/monsys"),
        "Where the host's key, the agent's id and the state are.";
    HOSTNAME_FILE: "hostname file", None, ["HOST_HOSTNAME_FILE"], Some("host_hostname_file"), Some("/host-hostname"),
        "File that holds the host's name, for an agent in a container.";
    OS_RELEASE_FILE: "os-release file", None, ["HOST_OS_RELEASE_FILE"], Some("host_os_release_file"), Some("/host-os-release"),
        "The host's os-release, for an agent in a container. Links of `/host/etc/os-release` are resolved below `/host`.";
    WAIT: "deadline", Some("--wait"), ["MONSYS_WAIT"], Some("wait"), Some("5m"),
        "How long an enrolment may take over all, retries included.";
    SPLAY: "splay", Some("--splay"), ["MONSYS_SPLAY"], Some("splay"), Some("0s"),
        "Longest random wait before the first try, so that many hosts do not come at once.";
    SCRUB: "traces in cloud-init", Some("--scrub-cloud-init"), ["MONSYS_SCRUB_CLOUD_INIT"], Some("scrub_cloud_init"), Some("auto"),
        "Whether the enrolment token is taken out of cloud-init's files and logs once the hub has confirmed: `yes`, `no`, or `auto`, which is yes when cloud-init runs the agent.";
}
