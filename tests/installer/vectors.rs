//! The table of tags and roles that every installation method has to pass on unchanged: here install.sh,
//! with tags and role in its environment.

use serde_json::Value;

use crate::machine::Machine;
use crate::release::Release;
use crate::script::{mirror, piped, served};

const TABLE: &str = include_str!("../vectors/agent_toml.json");

#[test]
#[ignore = "needs root: mounts an overlay"]
fn every_vector_gives_its_agent_toml() {
    let release = Release::new();
    let table: Value = serde_json::from_str(TABLE).unwrap();
    for vector in table["vectors"].as_array().unwrap() {
        let machine = Machine::new();
        let hub = mirror(&release, &machine);
        let tags: Vec<&str> = vector["tags"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tag| tag.as_str().unwrap())
            .collect();
        let run = piped(
            &machine,
            &["dash"],
            &served(&release, &hub),
            &[
                ("MONSYS_TOKEN", &hub.token()),
                ("MONSYS_TAGS", &tags.join(",")),
                ("MONSYS_ROLE", vector["role"].as_str().unwrap_or_default()),
            ],
        );
        assert_eq!(run.code, 0, "{}: {}", vector["name"], run.stderr);
        let found = std::fs::read_to_string(machine.path("etc/monsys/agent.toml")).unwrap();
        let keys: toml::Table = toml::from_str(&found).unwrap();
        let key = |name: &str| keys[name].as_str().unwrap();
        let wanted = vector["agent_toml"]
            .as_str()
            .unwrap()
            .replace("{HUB_URL}", &hub.url())
            .replace("{AGENT_ID}", key("agent_id"))
            .replace("{AGENT_TOKEN}", key("agent_token"))
            + &format!("ca_file = \"{}\"\n", key("ca_file"));
        assert_eq!(found, wanted, "{}", vector["name"]);
    }
}
