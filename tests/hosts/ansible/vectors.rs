//! The table of tags and roles that every installation method has to pass on unchanged.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::controller::Controller;
use super::settings;
use crate::disk::Disk;
use crate::lan::Lan;

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/agent_toml.json");

/// Tasks for each row: the role on an unenrolled host, and its agent.toml fetched.
fn tasks(settings: &Value, results: &Path) -> Value {
    let mut variables = settings.clone();
    variables["monsys_agent_tags"] = json!("{{ vector.tags }}");
    variables["monsys_agent_role"] = json!("{{ vector.role | default('', true) }}");
    variables["monsys_agent_token"] = json!("{{ lookup('env', 'TEST_ENROLMENT_TOKEN') }}");
    variables["monsys_agent_service_state"] = json!("stopped");
    json!([
        {
            "ansible.builtin.command": "rm -rf /etc/monsys/agent.toml /var/lib/monsys/agent-id \
                /var/lib/monsys/agent-signing.key /var/lib/monsys/state.json",
        },
        {
            "ansible.builtin.include_role": {"name": "gotrust.monsys.monsys_agent"},
            "vars": variables,
        },
        {
            "ansible.builtin.fetch": {
                "src": "/etc/monsys/agent.toml",
                "dest": format!("{}/{{{{ number }}}}", results.display()),
                "flat": true,
            },
        },
    ])
}

/// Variables to sign in as root, without become.
#[test]
fn every_vector_gives_its_agent_toml() {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = hub.token();
    let disk = Disk::debian("bookworm", "web-1");
    let host = lan.boot(&disk);
    let controller = Controller::new();
    controller.adopt(&host, &[]);
    controller.set("web-1", "ansible_user", json!("root"));
    controller.set("web-1", "ansible_pipelining", json!(true));

    let results = controller.path("results");
    let file = controller.path("tasks.yml");
    fs::write(&file, tasks(&settings(&hub), &results).to_string()).unwrap();
    let play = json!([{
        "hosts": "all",
        "gather_facts": false,
        // The result of a lookup is not evaluated as a template.
        "vars": {"table": format!("{{{{ lookup('file', '{TABLE}') | from_json }}}}")},
        "tasks": [{
            "ansible.builtin.include_tasks": file,
            "loop": "{{ table.vectors }}",
            "loop_control": {"loop_var": "vector", "index_var": "number"},
        }],
    }]);
    let played = controller
        .play(&token, &play.to_string(), &[])
        .expect_success();
    played.expect_no_secret(&token, "enrol --output json");

    let table: Value = serde_json::from_str(&fs::read_to_string(TABLE).unwrap()).unwrap();
    let vectors = table["vectors"].as_array().unwrap();
    for (number, vector) in vectors.iter().enumerate() {
        let found = fs::read_to_string(results.join(number.to_string())).unwrap();
        let keys: toml::Table = toml::from_str(&found).unwrap();
        let key = |name: &str| keys[name].as_str().unwrap().to_owned();
        let wanted = vector["agent_toml"].as_str().unwrap();
        let wanted = wanted
            .replace("{HUB_URL}", &hub.url())
            .replace("{AGENT_ID}", &key("agent_id"))
            .replace("{AGENT_TOKEN}", &key("agent_token"))
            + "ca_file = \"/etc/monsys/hub-ca.pem\"\n";
        assert_eq!(found, wanted, "{}", vector["name"]);
        println!("agent.toml as in the table: {}", vector["name"]);
    }
    assert_eq!(hub.agents().len(), vectors.len());
}
