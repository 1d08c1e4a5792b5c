//! The table of all settings. `docs/configuration.md` is generated from it.

/// One setting: its flag, variables, key and default.
pub struct Setting {
    /// The name of the setting in the documentation.
    pub name: &'static str,
    /// The flag, with its dashes.
    pub flag: Option<&'static str>,
    /// Environment variables; the first variable that is set wins.
    pub variables: &'static [&'static str],
    /// The key in `agent.toml`.
    pub key: Option<&'static str>,
    /// The built-in default.
    pub default: Option<&'static str>,
    /// The meaning of the setting, in a few sentences.
    pub help: &'static str,
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
        /// All settings, in the order of the documentation.
        pub static TABLE: &[&Setting] = &[$(&$id,)*];
    };
}

table! {
    HUB_URL: "hub", Some("--hub-url"), ["MONSYS_HUB_URL"], Some("hub_url"), Some("https://api.monsys.ai"),
        "URL of the hub: https, without user name, password or query. The agent keeps a path before `/api`. A host name that is not ASCII, here or of a proxy, is written in its A-label form: `xn--bcher-kva.example`.";
    DIALECT: "dialect", Some("--dialect"), ["MONSYS_DIALECT"], None, Some("monsys"),
        "The system that the host enrols into. Other dialects than monsys have settings of their own; `docs/dialects` describes them.";
    TOKEN: "token", None, ["MONSYS_TOKEN"], None, None,
        "The token itself. No flag takes the token, because every user of a host can read the arguments of a process.";
    TOKEN_FILE: "token file", Some("--token-file"), ["MONSYS_TOKEN_FILE"], Some("token_file"), None,
        "File that contains the token; `--token-file -` reads standard input. If no source of a token is set, the agent uses the systemd credential `monsys-token`, if it exists.";
    TOKEN_COMMAND: "token command", Some("--token-command"), [], Some("token_command"), None,
        "Command that prints the token on standard output. The agent runs it with `/bin/sh -c` when it needs the token, without MONSYS_TOKEN in the environment.";
    TAGS: "tags", Some("--tags"), ["MONSYS_TAGS"], Some("tags"), None,
        "The host's own tags, separated by commas. `--tag T` adds a tag and can be repeated. The key takes an array. A tag has 1 to 128 characters, and a host has at most 64 tags.";
    ROLE: "role", Some("--role"), ["MONSYS_ROLE"], Some("role"), None,
        "The host's role. It overrides the default role of the token.";
    CA_FILE: "private CA", Some("--ca-file"), ["MONSYS_CA_FILE"], Some("ca_file"), None,
        "PEM file of CA certificates. If it is set, the agent trusts only these CAs for the hub, and the hub's own certificate if the file has it. Otherwise it trusts the built-in Mozilla roots, and the system's store if those roots do not verify the chain: any one valid path is enough. A byte order mark, and the labels `X509 CERTIFICATE` and `TRUSTED CERTIFICATE`, are accepted. A regular file of at most 1 MiB. The flag and the variable may also name a pipe, which has to end before the deadline.";
    CA_PIN: "CA pin", Some("--ca-pin"), ["MONSYS_CA_PIN"], Some("ca_pin"), None,
        "`sha256:HEX` of the public key (SPKI) of a CA. The hub's chain must contain this CA. No CA file is necessary if the hub sends that CA in its chain, or has a self-signed certificate with that key.";
    PROXY: "proxy", None, ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"], Some("https_proxy"), None,
        "Proxy for https: `http://[USER:PASSWORD@]HOST:PORT`, or `https://…`. The built-in roots and the system's store decide about the certificate of an https proxy, and not the private CA or the CA pin, unless the proxy has the hub's host name. SOCKS is not supported.";
    NO_PROXY: "proxy exceptions", None, ["no_proxy", "NO_PROXY"], Some("no_proxy"), None,
        "Hosts and networks that are reached without the proxy, separated by commas or blanks: `*`; `example.org` or `.example.org`, the domain and all below it; `*.example.org`, only those below; an address; a network such as `10.0.0.0/8`. A domain or an address may have a port: `hub.example.org:8443`, `[::1]:8443`.";
    ALLOW_HTTP: "plain http", Some("--allow-http"), ["MONSYS_ALLOW_HTTP"], Some("allow_http"), Some("false"),
        "Allows plain http to hosts other than a loopback address. The token is then sent without encryption.";
    CONFIG: "config path", Some("--config"), ["MONSYS_CONFIG"], None, Some("/etc/monsys/agent.toml"),
        "Path of `agent.toml`.";
    STATE_DIR: "state directory", Some("--state-dir"), ["MONSYS_STATE_DIR"], Some("state_dir"), Some("/var/lib/monsys"),
        "Folder of the host's key, the agent's id and the state.";
    HOSTNAME_FILE: "hostname file", None, ["HOST_HOSTNAME_FILE"], Some("host_hostname_file"), Some("/host-hostname"),
        "File that contains the host's name, for an agent in a container.";
    OS_RELEASE_FILE: "os-release file", None, ["HOST_OS_RELEASE_FILE"], Some("host_os_release_file"), Some("/host-os-release"),
        "The host's os-release file, for an agent in a container. Symbolic links of `/host/etc/os-release` are resolved below `/host`.";
    WAIT: "deadline", Some("--wait"), ["MONSYS_WAIT"], Some("wait"), Some("5m"),
        "Longest total time of an enrolment, with all retries of the token source and of the hub. If it is not set, a host that is enrolled already waits 10 seconds for the hub's confirmation.";
    SPLAY: "splay", Some("--splay"), ["MONSYS_SPLAY"], Some("splay"), Some("0s"),
        "Longest random wait before the first try, so that many hosts do not connect at the same time.";
    READMISSION_INTERVAL: "readmission interval", None, ["MONSYS_READMISSION_INTERVAL"], Some("readmission_interval"), Some("1h"),
        "Shortest time between two attempts of the service to return to a hub that has forgotten this host. The first attempt comes after a random part of that time, so that the hosts of a fleet return spread over it.";
    SCRUB: "secret cleanup in cloud-init", Some("--scrub-cloud-init"), ["MONSYS_SCRUB_CLOUD_INIT"], Some("scrub_cloud_init"), Some("auto"),
        "Removes the enrolment token from cloud-init's files and logs after the hub has confirmed the enrolment: `yes`, `no`, or `auto`, which means yes when cloud-init runs the agent.";
}
