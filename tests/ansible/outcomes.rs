//! The role after each way in which an enrolment ends, and thousands of tokens through its guard. The
//! agent is a script; tests/hosts/ansible.rs plays the same with the real one.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;

use crate::collection::{Ansible, include};

/// Tokens of each kind.
const TOKENS: usize = 2_000;
/// The play prints this where the service would be set up.
const SERVICE: &str = "the service comes next";

#[test]
fn the_role_ends_as_the_enrolment_does() {
    let ansible = Ansible::new();
    let words = ["what: it is so", "cause: because", "hint: do it"];
    let and = |first: &[&'static str]| [first, &words].concat();
    let no = "the host was not enrolled";
    let incomplete = "a step is still open (exit code 74)";
    let unconfirmed = "the hub does not confirm it now";
    let outcomes = [
        // Enrolled, and something is left: the work goes on, then the play fails in the agent's words.
        (74, 0, true, and(&[SERVICE, incomplete]), vec![no]),
        (74, 75, true, and(&[SERVICE, incomplete]), vec![no]),
        (74, 78, true, and(&[no]), vec![SERVICE]),
        (77, 0, true, and(&[no]), vec![SERVICE]),
        // Enrolled before, and the hub is away.
        (
            75,
            0,
            false,
            vec![SERVICE, unconfirmed],
            vec![no, incomplete],
        ),
    ];
    for (enrol, status, fails, says, says_not) in outcomes {
        let (is_failed, output) = ended(&ansible, enrol, status);
        let has = |text: &&str| output.contains(*text);
        assert!(
            is_failed == fails && says.iter().all(has) && !says_not.iter().any(has),
            "enrol {enrol}, status {status}: failed {is_failed}\n{output}"
        );
    }
}

/// Plays the tasks around an enrolment, with an agent whose `enrol` and `status` end with these codes.
fn ended(ansible: &Ansible, enrol: i32, status: i32) -> (bool, String) {
    let agent = ansible.file("agent");
    let error = json!({"error": {"what": "it is so", "cause": "because", "hint": "do it"}});
    let is_enrolled = status != 78;
    let script = format!(
        "#!/bin/sh\ncase $1 in\nenrol) cat >/dev/null; echo '{error}'; exit {enrol} ;;\n\
         status) echo '{{\"enrolled\": {is_enrolled}}}'; exit {status} ;;\nesac\n"
    );
    fs::write(&agent, script).unwrap();
    fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).unwrap();
    let vars = json!({
        "__monsys_agent_look": {"stdout_lines": [agent, "monsys-agent 0.1.0"], "stderr_lines": []},
        "monsys_agent_token": "enrl_Ab0defghij-_ABCDEFGHIJ0123456789klmnopqrstu",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    });
    // As in present.yml, but for the service, which takes root.
    let mut last = include("incomplete");
    last["when"] = json!("__monsys_agent_is_incomplete");
    let tasks = [
        include("enrol"),
        json!({"ansible.builtin.debug": {"msg": SERVICE.split(' ').collect::<Vec<_>>().join("{{ ' ' }}")}}),
        last,
    ];
    ansible.play(&tasks, &vars)
}

/// The errors of apt-get 2.6, dpkg 1.21 and the module while another program has a lock, and others.
#[test]
fn the_role_recognizes_the_error_of_a_lock() {
    let locked = [
        json!({"msg": "'apt-get' failed: E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7 (unattended-upgr)"}),
        json!({"msg": "E: Unable to lock the administration directory (/var/lib/dpkg/), is another process using it?"}),
        json!({"msg": "E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another process using it?"}),
        json!({"msg": "dpkg -i x.deb failed", "stderr": "dpkg: error: dpkg frontend lock was locked by another process with pid 467"}),
        json!({"msg": "Failed to lock apt for exclusive operation"}),
    ];
    let others = [
        json!({"msg": "No package matching 'monsys-agent' is available"}),
        json!({"msg": "dpkg -i x.deb failed", "stderr": "dpkg: error processing archive x.deb (--install)"}),
        json!({"msg": "E: Unable to locate package monsys-agent"}),
        json!({}),
    ];
    let recognized = |result: &serde_json::Value, expected: bool| {
        json!({
            "ansible.builtin.assert": {
                "that": [if expected { "__monsys_agent_is_locked" } else { "not __monsys_agent_is_locked" }],
                "fail_msg": format!("{} for {{{{ __monsys_agent_apt }}}}", !expected),
            },
            "vars": {"__monsys_agent_apt": result},
        })
    };
    let tries =
        json!({"ansible.builtin.assert": {"that": ["__monsys_agent_lock_tries | int == 60"]}});
    let mut tasks = vec![include("validate"), tries];
    tasks.extend(locked.iter().map(|result| recognized(result, true)));
    tasks.extend(others.iter().map(|result| recognized(result, false)));
    let (is_failed, output) = Ansible::new().play(&tasks, &json!({}));
    assert!(!is_failed, "{}", crate::end_of(&output));
}

#[test]
fn the_guard_takes_every_token_for_one_and_no_name() {
    let mut tokens = Vec::new();
    for prefix in ["enrl_", "agt_", "ms_"] {
        for _ in 0..TOKENS {
            let mut bytes = [0; 32];
            SystemRandom::new().fill(&mut bytes).unwrap();
            tokens.push(format!(
                "--role={prefix}{}",
                BASE64_URL_SAFE_NO_PAD.encode(bytes)
            ));
        }
    }
    let names = [
        "--token-file=/run/secrets/enrl_token_of_eu-west-1",
        "--token-command=vault kv get -field=token teams_production/ms_accounts-2024",
        "--tag=ms_SqlServer-2019-Production",
        "--tag=platforms_Production0123456789-of-the-Western-Region",
    ];
    let vars = json!({"tokens": tokens, "names": names});
    let passed: &str = "tokens | reject('search', __monsys_agent_token_shape) | list";
    let refused = "names | select('search', __monsys_agent_token_shape) | list";
    let check = json!({"ansible.builtin.assert": {
        "that": [format!("{passed} == []"), format!("{refused} == []")],
        "fail_msg": format!("{{{{ {passed} }}}} pass, and {{{{ {refused} }}}} do not"),
    }});
    let (is_failed, output) = Ansible::new().play(&[include("validate"), check], &vars);
    assert!(!is_failed, "{}", crate::end_of(&output));
}
