//! The inputs that the role refuses before it does anything, played on this machine out of the built
//! collection. The tasks that are played change nothing.

use serde_json::{Value, json};

use crate::collection::{Ansible, include};

/// A token, as no other text looks.
const TOKEN: &str = "enrl_Ab0defghij-_ABCDEFGHIJ0123456789klmnopqrstu";

/// A play of one file of the role's tasks.
struct Case {
    tasks: &'static str,
    vars: Value,
    /// Parts of the output; none when the play ends well.
    says: &'static [&'static str],
}

#[test]
fn bad_inputs_are_refused_and_no_token_is_printed() {
    let ansible = Ansible::new();
    for case in cases() {
        let (is_refused, output) = ansible.play(&[include(case.tasks)], &case.vars);
        let says = case.says.iter().all(|text| output.contains(text));
        let secret = TOKEN.trim_start_matches("enrl");
        assert!(
            is_refused != case.says.is_empty() && says && !output.contains(secret),
            "{}.yml with {}: refused {is_refused}, expected {:?}\n{output}",
            case.tasks,
            case.vars,
            case.says
        );
    }
}

fn cases() -> Vec<Case> {
    let validate = |vars: Value, says| Case {
        tasks: "validate",
        vars,
        says,
    };
    vec![
        validate(json!({}), &[]),
        validate(
            json!({"monsys_agent_token_file": "/run/secrets/enrl_token"}),
            &[],
        ),
        validate(
            json!({"monsys_agent_token_command": "vault kv get -field=enrl_token_of_production secret/monsys"}),
            &[],
        ),
        validate(
            json!({"monsys_agent_token_file": TOKEN}),
            &["monsys_agent_token_file is not an absolute path"],
        ),
        // A secret of another dialect has no prefix.
        validate(
            json!({"monsys_agent_token_file": "Zm9vYmFyYmF6"}),
            &["monsys_agent_token_file is not an absolute path"],
        ),
        validate(
            json!({"monsys_agent_token_command": format!("echo {TOKEN}")}),
            &["other than monsys_agent_token holds a token"],
        ),
        validate(
            json!({"monsys_agent_role": TOKEN.replace("enrl", "agt")}),
            &["other than monsys_agent_token holds a token"],
        ),
        validate(
            json!({"monsys_agent_token_command": "cat /secrets/teams_production/enrl_token_of_eu-west-1"}),
            &[],
        ),
        validate(
            json!({"monsys_agent_role": TOKEN.replace("enrl", "ms")}),
            &["other than monsys_agent_token holds a token"],
        ),
        validate(
            json!({"monsys_agent_version": TOKEN}),
            &["other than monsys_agent_token holds a token"],
        ),
        validate(
            json!({"monsys_agent_version": "latest"}),
            &["monsys_agent_version is not a version such as 0.1.0"],
        ),
        validate(
            json!({"monsys_agent_version": "0.2.0", "monsys_agent_method": "package",
                   "monsys_agent_package": "/d/monsys-agent_0.1.0-1_amd64.deb"}),
            &["is of version 0.1.0-1"],
        ),
        Case {
            tasks: "failed",
            vars: json!({"__monsys_agent_what": "the host was not enrolled",
                         "__monsys_agent_ran": {"rc": 13, "msg": "Error executing command."}}),
            says: &["cause: Error executing command. (exit code 13)"],
        },
        Case {
            tasks: "failed",
            vars: json!({"__monsys_agent_what": "the host was not enrolled",
                         "__monsys_agent_ran": {"rc": -11, "stdout": "", "stderr": ""}}),
            says: &["cause: ", "(exit code -11)"],
        },
        Case {
            tasks: "missing",
            vars: json!({"monsys_agent_method": "binary"}),
            says: &[
                "error: it is needed",
                "/usr/local/bin/monsys-agent, /opt/monsys/bin/monsys-agent, /var/opt/monsys/bin/monsys-agent",
                "is broken there",
                "hint: do this",
            ],
        },
    ]
}
