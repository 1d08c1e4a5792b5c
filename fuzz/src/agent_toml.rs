//! `agent.toml`: storing a credential changes nothing of the user's.

use std::path::Path;

use agent_core::store::agent_toml::{AgentToml, Entry};
use agent_core::token::Secret;
use monsys_agent::fuzzing;
use toml_edit::Document;
use uuid::Uuid;

use crate::parts;

const ID: Uuid = Uuid::from_u128(0x5eed);
const HUB: &str = "https://hub.example";
const CA_FILE: &str = "/etc/ssl/hub \"ca\".pem";
/// The keys that an enrolment sets here.
const SET: [&str; 7] = [
    "hub_url",
    "agent_id",
    "agent_token",
    "tags",
    "role",
    "ca_file",
    "allow_http",
];

/// The variable values that are put into the file.
struct Credential<'a> {
    tags: &'a [String],
    role: Option<&'a str>,
    token: &'a Secret,
}

/// Parts: the file, then a tag a line, then the role, then the token.
pub fn agent_toml(bytes: &[u8]) {
    let [text, tags, role, token] = parts(bytes);
    let tags: Vec<String> = tags.lines().map(str::to_owned).collect();
    // No value of an enrolment has more than one line: a role with a line break is refused before.
    let role = role.lines().next().filter(|role| !role.is_empty());
    let Ok(token) = Secret::per_agent(&format!("agt_{}", token.trim())) else {
        return;
    };
    let credential = Credential {
        tags: &tags,
        role,
        token: &token,
    };
    let Ok(before) = parse(&text) else { return };
    let _ = (before.agent_token(), before.agent_id());
    assert!(before.room() >= text.len());

    let written = put(&before, &credential);
    let after = parse(&written).unwrap_or_else(|cause| panic!("{cause}\n{written}"));
    assert_eq!(put(&after, &credential), written, "it is not idempotent");
    values_come_back(&after, &written, &credential);
    own_keys_are_kept(&text, &written);
    own_lines_are_kept(&text, &written);
}

fn parse(text: &str) -> Result<AgentToml, agent_core::error::Error> {
    fuzzing::agent_toml(Path::new("/etc/monsys/agent.toml"), text)
}

fn put(file: &AgentToml, credential: &Credential<'_>) -> String {
    let entries = [
        ("hub_url", Entry::Text(HUB.into())),
        ("agent_id", Entry::Text(ID.to_string())),
        ("agent_token", Entry::Secret(credential.token)),
        ("tags", Entry::List(credential.tags)),
        (
            "role",
            credential
                .role
                .map_or(Entry::Nothing, |role| Entry::Text(role.to_owned())),
        ),
        ("ca_file", Entry::Text(CA_FILE.into())),
        ("allow_http", Entry::Flag(true)),
    ];
    match file.with(&entries) {
        Ok(text) => text.to_string(),
        Err(cause) => panic!("read, but not written: {cause}"),
    }
}

fn values_come_back(after: &AgentToml, written: &str, credential: &Credential<'_>) {
    let token = after.agent_token().ok().flatten();
    assert_eq!(
        token.as_ref().map(Secret::expose_secret),
        Some(credential.token.expose_secret())
    );
    assert_eq!(after.agent_id().ok().flatten(), Some(ID));
    let table: toml::Table = written.parse().unwrap_or_default();
    let text = |key: &str| table.get(key).and_then(toml::Value::as_str);
    assert_eq!(text("hub_url"), Some(HUB));
    assert_eq!(text("ca_file"), Some(CA_FILE));
    assert_eq!(
        text("role").filter(|role| !role.is_empty()),
        credential.role
    );
    assert_eq!(table["allow_http"].as_bool(), Some(true));
    let tags: Option<Vec<&str>> = table["tags"]
        .as_array()
        .and_then(|tags| tags.iter().map(toml::Value::as_str).collect());
    let given: Vec<&str> = credential.tags.iter().map(String::as_str).collect();
    assert_eq!(tags, Some(given));
}

/// Checks that all keys except the changed ones have their old values.
fn own_keys_are_kept(before: &str, written: &str) {
    let own = |text: &str| {
        let mut table: toml::Table = text.parse().unwrap_or_default();
        for key in SET {
            table.remove(key);
        }
        // As text, since a NaN is not equal to itself.
        format!("{table:?}")
    };
    assert_eq!(own(before), own(written));
}

/// Checks that every line, including comments, is in its old place, except for the changed values.
fn own_lines_are_kept(before: &str, written: &str) {
    let (old, new) = (without_set_values(before), without_set_values(written));
    let mut left = new.lines();
    for line in old.lines() {
        assert!(
            left.any(|other| other.trim_end() == line.trim_end()),
            "the line {line:?} is gone or moved:\n{written}"
        );
    }
}

fn without_set_values(text: &str) -> String {
    let Ok(document) = Document::parse(text) else {
        panic!("it cannot be parsed for editing:\n{text}");
    };
    let mut spans: Vec<_> = SET
        .iter()
        .filter_map(|key| document.get(key)?.span())
        .collect();
    spans.sort_by_key(|span| span.start);
    let mut clean = text.to_owned();
    for span in spans.into_iter().rev() {
        clean.replace_range(span, "…");
    }
    clean
}
