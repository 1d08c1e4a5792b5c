use proptest::prelude::*;

use super::*;
use crate::store::atomic::Owner;

fn file(text: &str) -> Result<AgentToml> {
    // In memory, where there is such a folder: each of many cases is synced to the disk.
    let folder = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let path = folder.path().join("agent.toml");
    atomic::write(&path, text.as_bytes(), 0o600, Owner::ours()).unwrap();
    AgentToml::load(&path)
}

fn enrolled(text: &str, tags: &[String], role: Option<&str>) -> String {
    let token = Secret::per_agent("agt_secret").unwrap();
    file(text)
        .unwrap()
        .with(&[
            ("hub_url", Entry::Text("https://hub.example".into())),
            ("agent_id", Entry::Text(Uuid::nil().to_string())),
            ("agent_token", Entry::Secret(&token)),
            ("tags", Entry::List(tags)),
            (
                "role",
                role.map_or(Entry::Nothing, |role| Entry::Text(role.into())),
            ),
            ("ca_file", Entry::Text("/etc/ssl/hub-ca.pem".into())),
        ])
        .unwrap()
        .to_string()
}

#[test]
fn a_new_file_has_only_the_credential() {
    assert_eq!(
        enrolled("", &["prod".into(), "eu".into()], Some("web")),
        r#"# Written by monsys-agent. Your own keys, order and comments are kept.
hub_url = "https://hub.example"
agent_id = "00000000-0000-0000-0000-000000000000"
agent_token = "agt_secret"
tags = ["prod", "eu"]
role = "web"
ca_file = "/etc/ssl/hub-ca.pem"
"#
    );
}

#[test]
fn the_keys_order_and_comments_of_the_user_stay() {
    let before = r#"# mine
role = "db" # cause it is db

colour = 'blue'
tags = [ 'a', # one
  'b',
] # all of them

[logging]
level = 'info' # chatty
"#;
    assert_eq!(
        enrolled(before, &["a".into()], None),
        r#"# mine
role = "" # cause it is db

colour = 'blue'
tags = ["a"] # all of them
hub_url = "https://hub.example"
agent_id = "00000000-0000-0000-0000-000000000000"
agent_token = "agt_secret"
ca_file = "/etc/ssl/hub-ca.pem"

[logging]
level = 'info' # chatty
"#
    );
}

#[test]
fn line_ends_and_byte_order_mark_stay() {
    for text in [
        "\u{feff}# mine\r\nrole = \"db\"\r\nnote = \"\"\"\r\na\r\n\"\"\"\r\n",
        "\u{feff}role = \"db\"\n",
        "x = 1\r\nrole = \"db\"",
    ] {
        let after = enrolled(text, &[], None);
        assert_eq!(after.starts_with('\u{feff}'), text.starts_with('\u{feff}'));
        let is_crlf = text.contains("\r\n");
        let ends = after.matches('\n').count();
        let crlf = after.matches("\r\n").count();
        assert_eq!(crlf, if is_crlf { ends } else { 0 }, "{after:?}");
        assert!(after.contains("agent_token"), "{after:?}");
        assert_eq!(enrolled(&after, &[], None), after, "not stable");
    }
}

#[test]
fn an_error_names_the_line_of_a_broken_file_without_its_text() {
    for (text, cause) in [
        ("a = 1\nagent_token = agt_secret\n", "line 2"),
        ("tags = 'a,b'\n", "line 1"),
        ("\n\nrole = 7\n", "line 3"),
        ("a = 1\na = 2\n", "line 2"),
        ("agent_token = ['agt_secret']\n", "line 1: `agent_token`"),
    ] {
        let error = file(text).unwrap_err();
        assert_eq!(error.exit_code(), 78);
        assert!(error.cause().contains(cause), "{error}");
        assert!(!error.to_string().contains("agt_secret"));
    }
    let file = file("agent_token = 'enrl_oops'\nagent_id = 'x'\n").unwrap();
    assert_eq!(file.agent_token().unwrap_err().exit_code(), 78);
    assert_eq!(file.agent_id().unwrap_err().exit_code(), 78);
    assert!(!format!("{:?}", file.settings()).contains("enrl_oops"));
}

#[test]
fn an_error_names_the_key_of_a_wrong_type_and_the_right_type() {
    for (text, cause) in [
        (
            "tags = 'a,b'\n",
            "line 1: `tags` has to be an array of strings",
        ),
        ("tags = ['a', 1]\n", "line 1: `tags` has to be an array"),
        (
            "a = 1\nrole = {a = 1}\n",
            "line 2: `role` has to be a string",
        ),
        ("[role]\na = 1\n", "line 1: `role` has to be a string"),
        ("[[hub_url]]\n", "`hub_url` has to be a string"),
        (
            "agent_id = 7\nallow_http = 'yes'\n",
            "line 1: `agent_id` has to be",
        ),
        (
            "allow_http = 'yes'\n",
            "`allow_http` has to be true or false",
        ),
        ("wait = [1]\n", "`wait` has to be a duration"),
    ] {
        let error = file(text).unwrap_err();
        assert!(error.cause().contains(cause), "{text}: {error}");
        // Words of the parser's library mean nothing to an operator.
        for word in ["invalid type", "sequence", "map"] {
            assert!(!error.cause().contains(word), "{text}: {error}");
        }
    }
}

#[test]
fn every_key_has_a_type() {
    for key in KNOWN_KEYS {
        for text in [
            format!("# x\n{key} = 1.5\n"),
            format!("\n{key}.a = 'x'\n"),
            format!("[x]\n[[{key}]]\n"),
            format!("\r\n[{key}.a]\n"),
            format!("\n\"{key}\" = 2020-01-01\n"),
        ] {
            let error = file(&text).unwrap_err();
            let cause = format!("line 2: `{key}` has to be ");
            assert!(error.cause().starts_with(&cause), "{text}: {error}");
        }
    }
    let lines = file("tags = [\n'a',\n\n2]\n").unwrap_err();
    assert!(lines.cause().starts_with("line 4: `tags`"), "{lines}");
}

/// TOML 1.1, section Integer: one that is not represented without loss is an error. `with` finds it too, but
/// after the exchange.
#[test]
fn an_integer_of_more_than_64_bits_is_an_error_at_once() {
    let error = file("\nmine = 9223372036854775808\n").unwrap_err();
    assert!(error.cause().starts_with("line 2: integer"), "{error}");
}

#[test]
fn a_bare_number_is_a_duration_in_seconds() {
    let file = file("wait = 30\nsplay = '5m'\nreadmission_interval = -1\n").unwrap();
    let settings = file.settings();
    assert_eq!(settings.wait.as_deref(), Some("30"));
    assert_eq!(settings.splay.as_deref(), Some("5m"));
    assert_eq!(settings.readmission_interval.as_deref(), Some("-1"));
}

proptest! {
    #[test]
    fn any_tag_and_role_comes_back_and_writing_twice_is_writing_once(
        tags in prop::collection::vec("[^\\p{Cc},]{1,20}", 0..5),
        role in prop::option::of("[^\\p{Cc}]{1,20}"),
        mine in "[a-z]{1,8}",
    ) {
        let before = format!("# note\nmy_{mine} = 1 # kept\n[my]\nx = 2\n");
        let once = enrolled(&before, &tags, role.as_deref());
        let read = file(&once).unwrap();
        prop_assert_eq!(read.settings().tags.as_ref(), Some(&tags));
        prop_assert_eq!(read.settings().role.as_deref(), role.as_deref());
        let expected = format!("# note\nmy_{mine} = 1 # kept\n");
        prop_assert!(once.starts_with(&expected));
        prop_assert_eq!(enrolled(&once, &tags, role.as_deref()), once);
    }
}
