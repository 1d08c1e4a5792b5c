//! Settings: from the environment and flags, and from a complete `agent.toml`.

use std::path::Path;
use std::time::Duration;

use agent_core::environment::Environment;
use agent_core::error::{ErrorId, Result};
use agent_core::flags::Flags;
use agent_core::hub::client::Client;
use agent_core::settings::{HubUrl, Settings};
use agent_core::sourced::Source;
use agent_core::store::agent_toml::Entry;
use agent_core::tags;
use monsys_agent::fuzzing;

use crate::parts;

const PATH: &str = "/etc/monsys/agent.toml";
const LONGEST: Duration = Duration::from_hours(30 * 24);

/// Parts: the hub's URL of a flag, then the proxy and NO_PROXY of the environment. Accepted settings make a
/// client with this destination; a rejected setting is named, and its value is not repeated.
pub fn network_settings(bytes: &[u8]) {
    let [hub, proxy, bypass] = parts(bytes);
    // A variable cannot contain a NUL byte.
    let variables = [("HTTPS_PROXY", &proxy), ("NO_PROXY", &bypass)]
        .map(|(name, value)| (name, value.replace('\0', "")));
    let flags = Flags {
        hub_url: Some(hub.clone()),
        ..Flags::default()
    };
    match resolve(&flags, &environment(variables.to_vec()), "") {
        Ok(settings) => {
            is_usable(&settings);
            if let Err(error) = Client::new(&settings) {
                panic!("no client: {error}");
            }
        }
        Err(error) => {
            assert_eq!(error.exit_code(), 64, "{error}");
            let what = error.what();
            let names = ["--hub-url", "HTTPS_PROXY", "NO_PROXY"];
            assert!(names.iter().any(|name| what.contains(name)), "{what}");
            // There may be a password between a scheme and an at sign.
            for text in [&hub, &proxy] {
                let user = text
                    .split_once("://")
                    .and_then(|(_, rest)| rest.split_once('@'));
                let user = user.map_or("", |(user, _)| user);
                assert!(
                    user.len() < 12 || !error.to_string().contains(user),
                    "{error}"
                );
            }
        }
    }
}

/// Parts: an `agent.toml`, then tags and the role of flags. Settings are within their limits, and equal after
/// they were written to another `agent.toml`.
pub fn settings(bytes: &[u8]) {
    let [text, tags, role] = parts(bytes);
    let flags = Flags {
        tags: Some(tags),
        role: Some(role),
        ..Flags::default()
    };
    let environment = environment(Vec::new());
    match resolve(&flags, &environment, &text) {
        Ok(settings) => {
            is_usable(&settings);
            is_the_same_when_written(&settings, &environment);
        }
        Err(error) => {
            let what = error.what();
            match error.id() {
                // The CA file or one of its folders belongs to another user.
                ErrorId::ForeignOwner => {}
                ErrorId::ConfigBroken => assert!(what.contains(PATH), "{what}"),
                _ => {
                    assert_eq!(error.exit_code(), 64, "{error}");
                    let names = [PATH, "--tags", "--tag", "--role", "built-in default"];
                    assert!(names.iter().any(|name| what.contains(name)), "{what}");
                }
            }
        }
    }
}

fn environment(variables: Vec<(&'static str, String)>) -> Environment {
    Environment::real([])
        .with_root("/nonexistent/monsys-fuzz")
        .with_variables(variables)
}

fn resolve(flags: &Flags, environment: &Environment, text: &str) -> Result<Settings> {
    fuzzing::settings(flags, environment, Path::new(PATH), text)
}

fn is_usable(settings: &Settings) {
    hub_is_usable(&settings.hub_url.value, settings.allow_http.value);
    let state_dir = &settings.state_dir.value;
    assert!(state_dir.is_absolute(), "{}", state_dir.display());
    let ca_file = settings.ca_file.as_ref().map(|file| file.value.clone());
    let paths = [
        state_dir,
        &settings.hostname_file.value,
        &settings.os_release_file.value,
    ];
    for path in paths.into_iter().chain(&ca_file) {
        let path = path.to_str().expect("it was text");
        assert!(!path.contains(char::is_control), "{path:?}");
    }
    let own = &settings.tags;
    for (index, tag) in own.value.iter().enumerate() {
        assert_eq!(tags::tag_fault(tag), None);
        assert_eq!(tag.trim_matches(' '), tag);
        assert!(!own.value[..index].contains(tag), "{tag:?} twice");
    }
    assert!(matches!(own.source, Source::Key(..)) || own.value.len() <= tags::MAX_TAGS);
    if let Some(role) = &settings.role {
        assert_eq!(tags::role_fault(&role.value), None);
    }
    assert!(settings.wait.value <= LONGEST && settings.splay.value <= LONGEST);
    if let Some(proxy) = &settings.proxy {
        let url = &proxy.value.url;
        assert!(matches!(url.scheme(), "http" | "https"), "{url}");
        assert!(url.host_str().is_some_and(|host| !host.is_empty()), "{url}");
        let bypass = proxy.value.exceptions.as_deref().unwrap_or_default();
        assert!(!bypass.contains(char::is_control), "{bypass:?}");
    }
}

fn hub_is_usable(hub: &HubUrl, allow_http: bool) {
    let shown = hub.to_string();
    assert!(shown.bytes().all(|byte| byte.is_ascii_graphic()), "{shown}");
    assert!(!shown.contains(['?', '#']), "{shown}");
    let host = hub.host();
    assert!(
        !host.is_empty() && hub.port() > 0 || shown.contains(":0"),
        "{shown}"
    );
    let again = HubUrl::parse(&shown, allow_http, &Source::Default);
    assert_eq!(again.map(|hub| hub.to_string()).ok(), Some(shown.clone()));
    let (scheme, rest) = shown.split_once("://").expect("a scheme");
    assert_eq!(scheme == "https", hub.is_https());
    let authority = rest.split('/').next().unwrap_or_default();
    assert!(!authority.contains('@'), "{shown}");
    if !hub.is_https() && !allow_http {
        let is_loopback = host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.to_canonical().is_loopback());
        assert!(is_loopback, "{shown} in the clear");
    }
    let joined = hub.join("/api/v1/agents/enrol").to_string();
    assert_eq!(joined, format!("{shown}/api/v1/agents/enrol"));
}

/// Checks that an `agent.toml` with these values, strings and lists, gives equal settings.
fn is_the_same_when_written(settings: &Settings, environment: &Environment) {
    let path = |path: &Path| Entry::Text(path.to_string_lossy().into_owned());
    let seconds = |time: Duration| Entry::Text(format!("{}ns", time.as_nanos()));
    let role = settings.role.as_ref().map(|role| role.value.clone());
    let proxy = settings.proxy.as_ref().map(|proxy| &proxy.value);
    let optional = |text: Option<String>| text.map_or(Entry::Nothing, Entry::Text);
    let entries = [
        ("hub_url", Entry::Text(settings.hub_url.value.to_string())),
        ("allow_http", Entry::Flag(settings.allow_http.value)),
        ("state_dir", path(&settings.state_dir.value)),
        ("tags", Entry::List(&settings.tags.value)),
        ("role", optional(role)),
        (
            "ca_pin",
            optional(settings.ca_pin.as_ref().map(|pin| pin.value.to_string())),
        ),
        (
            "https_proxy",
            optional(proxy.map(|proxy| proxy.url.to_string())),
        ),
        (
            "no_proxy",
            optional(proxy.and_then(|proxy| proxy.exceptions.clone())),
        ),
        ("host_hostname_file", path(&settings.hostname_file.value)),
        (
            "host_os_release_file",
            path(&settings.os_release_file.value),
        ),
        ("wait", seconds(settings.wait.value)),
        ("splay", seconds(settings.splay.value)),
    ];
    let empty = fuzzing::agent_toml(Path::new(PATH), "").expect("an empty file");
    let written = match empty.with(&entries) {
        Ok(text) => text,
        Err(error) => panic!("settings that cannot be written: {error}"),
    };
    let again = match resolve(&Flags::default(), environment, &written) {
        Ok(again) => again,
        Err(error) => panic!("{error}\n{}", *written),
    };
    let values = |settings: &Settings| {
        let role = settings.role.as_ref().map(|role| role.value.clone());
        let proxy = settings.proxy.as_ref().map(|proxy| {
            let bypass = proxy.value.exceptions.clone();
            (
                proxy.value.url.to_string(),
                bypass.filter(|bypass| !bypass.is_empty()),
            )
        });
        (
            (
                settings.hub_url.value.to_string(),
                settings.allow_http.value,
            ),
            settings.state_dir.value.clone(),
            (settings.tags.value.clone(), role),
            settings.ca_pin.as_ref().map(|pin| pin.value),
            proxy,
            (
                settings.hostname_file.value.clone(),
                settings.os_release_file.value.clone(),
            ),
            (settings.wait.value, settings.splay.value),
        )
    };
    assert_eq!(values(&again), values(settings));
}
