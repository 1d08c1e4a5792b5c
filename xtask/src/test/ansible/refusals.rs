//! What the role refuses before it does anything, played on this machine out of the built collection.
//! The tasks that are played change nothing.

use std::fs;

use serde_json::{Value, json};

use super::{Ansible, ROLE};
use crate::error::{Context, Result, Stop};
use crate::process;

/// A token, as no other text looks.
const TOKEN: &str = "enrl_Ab0defghij-_ABCDEFGHIJ0123456789klmnopqrstu";

/// A play of one file of the role's tasks.
struct Case {
    tasks: &'static str,
    vars: Value,
    /// What the output has; none when the play ends well.
    says: &'static [&'static str],
}

/// Plays each case.
pub(super) async fn all(ansible: &Ansible) -> Vec<Result<()>> {
    let mut outcomes = Vec::new();
    for case in cases() {
        outcomes.push(case.play(ansible).await);
    }
    outcomes
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

impl Case {
    async fn play(self, ansible: &Ansible) -> Result<()> {
        let (is_refused, output) = play(ansible, &[include(self.tasks)], &self.vars).await?;
        let says = self.says.iter().all(|text| output.contains(text));
        let secret = TOKEN.trim_start_matches("enrl");
        if is_refused != self.says.is_empty() && says && !output.contains(secret) {
            return Ok(());
        }
        Err(Stop::failed(format!(
            "{}.yml with {}: refused {is_refused}, expected {:?}\n{output}",
            self.tasks, self.vars, self.says
        )))
    }
}

/// The task that includes a file of the role's tasks, and leaves the role's variables to those after it.
pub(super) fn include(file: &str) -> Value {
    json!({"ansible.builtin.include_role": {"name": ROLE, "tasks_from": file, "public": true}})
}

/// Plays these tasks on this machine; whether the play failed, and what it printed at its loudest.
pub(super) async fn play(
    ansible: &Ansible,
    tasks: &[Value],
    vars: &Value,
) -> Result<(bool, String)> {
    let mut all = json!({
        "__monsys_agent_look": {"stdout_lines": [], "stderr_lines": ["is broken there"]},
        "__monsys_agent_needed": "it is needed",
        "__monsys_agent_hint": "do this",
    });
    if let (Some(all), Some(own)) = (all.as_object_mut(), vars.as_object()) {
        all.extend(own.clone());
    }
    let play = json!([{
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": false,
        "vars": all,
        "tasks": tasks,
    }]);
    let path = ansible.home.path().join("play.yml");
    fs::write(&path, play.to_string()).context(|| format!("no {}", path.display()))?;
    let mut command = ansible.command("ansible-playbook");
    command
        .args(["-vvvvv", "--inventory=localhost,"])
        .arg(&path);
    let said = process::capture(&mut command).await?;
    let output = format!("{}{}", said.stdout, said.stderr);
    Ok((!said.status.success(), output))
}
