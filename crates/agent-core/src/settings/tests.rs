use std::path::Path;

use super::reader::parse_pin;
use super::*;

fn environment(root: &Path, variables: &[(&str, &str)]) -> Environment {
    Environment::real([])
        .with_root(root)
        .with_variables(variables.iter().copied())
}

fn host(agent_toml: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let config = root.path().join("etc/monsys");
    std::fs::create_dir_all(&config).unwrap();
    #[expect(clippy::disallowed_methods, reason = "lays out a host")]
    std::fs::write(config.join("agent.toml"), agent_toml).unwrap();
    root
}

#[test]
fn a_flag_overrides_the_environment_then_the_file_then_the_default() {
    let root = host("hub_url = \"https://file.example\"\nrole = \"file\"\ntags = [\"file\"]\n");
    let variables = [
        ("MONSYS_HUB_URL", "https://env.example"),
        ("MONSYS_ROLE", "env"),
        ("MONSYS_TAGS", "env, more,,"),
    ];
    let flags = Flags {
        hub_url: Some("https://flag.example".into()),
        role: Some("flag".into()),
        tag: vec!["a".into()],
        tags: Some("b,a".into()),
        ..Flags::default()
    };
    let resolve = |flags: &Flags, variables: &[(&str, &str)]| {
        let settings = Settings::resolve(flags, &environment(root.path(), variables)).unwrap();
        (
            settings.hub_url.value.to_string(),
            settings.role.map(|role| role.value).unwrap_or_default(),
            settings.tags.value.join(","),
        )
    };
    let all = |hub: &str, role: &str, tags: &str| {
        (format!("https://{hub}"), role.to_owned(), tags.to_owned())
    };
    assert_eq!(
        resolve(&flags, &variables),
        all("flag.example", "flag", "a,b")
    );
    assert_eq!(
        resolve(&Flags::default(), &variables),
        all("env.example", "env", "env,more")
    );
    assert_eq!(
        resolve(&Flags::default(), &[]),
        all("file.example", "file", "file")
    );
    // An empty value counts as not given, at every level.
    let empty = Flags {
        role: Some(String::new()),
        tags: Some(",".into()),
        ..Flags::default()
    };
    assert_eq!(
        resolve(&empty, &[("MONSYS_ROLE", ""), ("MONSYS_TAGS", "")]),
        all("file.example", "file", "file")
    );
    let bare = tempfile::tempdir().unwrap();
    let settings = Settings::resolve(&Flags::default(), &environment(bare.path(), &[])).unwrap();
    assert_eq!(settings.hub_url.value.to_string(), "https://api.monsys.ai");
    assert_eq!(settings.wait.value, Duration::from_mins(5));
}

#[test]
fn an_error_names_the_source_of_the_value() {
    let root = host("splay = \"soon\"\n");
    for (variables, place) in [
        (vec![("MONSYS_WAIT", "soon")], "MONSYS_WAIT"),
        (
            vec![("MONSYS_SPLAY", "1s"), ("MONSYS_CA_PIN", "sha256:12")],
            "MONSYS_CA_PIN",
        ),
        (
            vec![("MONSYS_SPLAY", "1s"), ("HTTPS_PROXY", "socks5://x")],
            "HTTPS_PROXY",
        ),
        (
            vec![("MONSYS_SPLAY", "1s"), ("MONSYS_ALLOW_HTTP", "maybe")],
            "MONSYS_ALLOW_HTTP",
        ),
        (vec![], "`splay` in /etc/monsys/agent.toml"),
    ] {
        let Err(error) =
            Settings::resolve(&Flags::default(), &environment(root.path(), &variables))
        else {
            panic!("{place} was accepted");
        };
        assert!(error.what().contains(place), "{error}");
        assert_eq!(error.exit_code(), 64);
    }
}

#[test]
fn blanks_count_as_not_given_in_every_variable() {
    let root = host("");
    let resolve = |value: &str| {
        let names = TABLE.iter().flat_map(|setting| setting.variables);
        let variables: Vec<_> = names.map(|name| (*name, value)).collect();
        Settings::resolve(&Flags::default(), &environment(root.path(), &variables)).unwrap()
    };
    let (blank, absent) = (resolve(" \t\r\n"), resolve(""));
    assert_eq!(blank.hub_url, absent.hub_url);
    assert_eq!(blank.state_dir, absent.state_dir);
    assert_eq!(blank.config_path, absent.config_path);
    assert_eq!(blank.wait, absent.wait);
    assert_eq!(blank.tags, absent.tags);
    assert_eq!(blank.hostname_file, absent.hostname_file);
    assert!(blank.role.is_none() && blank.ca_pin.is_none() && blank.token.is_none());
    assert!(blank.proxy.is_none() && blank.ca_file.is_none());
}

#[test]
fn a_pin_is_read_in_either_case() {
    let hex = "00ff".repeat(16);
    assert_eq!(parse_pin(&format!("sha256:{hex}")).unwrap().0[1], 255);
    assert_eq!(
        parse_pin(&format!("sha256:{}", hex.to_uppercase())),
        parse_pin(&format!("sha256:{hex}"))
    );
    for bad in ["", "sha256:", "sha1:00", "sha256:zz", "sha256:é"] {
        assert!(parse_pin(bad).is_none());
    }
}
