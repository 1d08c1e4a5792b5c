//! One form of the version for every method: what the role takes for installed and for wanted.

use serde_json::json;

use crate::collection::{Ansible, include};

/// Method, source, `monsys_agent_version`, version of the package or of the program on the host, and whether the
/// host already has what is wanted.
type Row = (&'static str, &'static str, &'static str, &'static str, bool);

const ROWS: [Row; 16] = [
    ("mirror", "", "0.1.0", "0.1.0", true),
    ("mirror", "", "0.1.0-1", "0.1.0", true),
    ("mirror", "", "v0.1.0", "0.1.0", true),
    ("mirror", "", "", "0.1.0", true),
    ("mirror", "", "0.1.0", "0.1.1", false),
    ("mirror", "", "0.1.0", "0.1.0-rc.1", false),
    (
        "package",
        "monsys-agent",
        "0.1.0",
        "deb installed 0.1.0-1",
        true,
    ),
    (
        "package",
        "monsys-agent",
        "0.1.0",
        "rpm installed 0.1.0-1",
        true,
    ),
    (
        "package",
        "monsys-agent",
        "0.1.0",
        "rpm installed 0.1.0-1.el9",
        true,
    ),
    (
        "package",
        "monsys-agent",
        "0.1.0-1",
        "deb installed 0.1.0-1",
        true,
    ),
    (
        "package",
        "monsys-agent",
        "0.1.0-2",
        "deb installed 0.1.0-1",
        false,
    ),
    (
        "package",
        "monsys-agent",
        "0.1.0",
        "deb installed 0.1.10-1",
        false,
    ),
    ("package", "monsys-agent", "", "deb installed 0.2.0-1", true),
    (
        "package",
        "/d/monsys-agent_0.1.0-1_amd64.deb",
        "0.1.0",
        "deb installed 0.1.0-1",
        true,
    ),
    (
        "package",
        "/d/monsys-agent-0.1.0-1.x86_64.rpm",
        "",
        "rpm installed 0.1.0-1",
        true,
    ),
    (
        "package",
        "/d/monsys-agent-0.1.0-2.x86_64.rpm",
        "0.1.0",
        "rpm installed 0.1.0-1",
        false,
    ),
];

#[test]
fn one_form_of_the_version_is_for_every_method() {
    let mut tasks = vec![include("validate")];
    for (method, source, version, host, is_wanted) in ROWS {
        let is_package = method == "package";
        let program = if is_package { "0.0.9" } else { host };
        let check = json!({
            "ansible.builtin.assert": {
                "that": [format!("(__monsys_agent_is_wanted | bool) == {is_wanted}").replace("true", "True").replace("false", "False")],
                "fail_msg": format!("{method} {source} {version} on {host}"),
            },
            "vars": {
                "monsys_agent_method": method,
                "monsys_agent_package": source,
                "monsys_agent_version": version,
                "__monsys_agent_packaged": {"stdout": if is_package { host } else { "" }},
                "__monsys_agent_look": {
                    "stdout_lines": ["/x/monsys-agent", format!("monsys-agent {program}")],
                    "stderr_lines": [],
                },
            },
        });
        tasks.push(check);
    }
    let (is_failed, output) = Ansible::new().play(&tasks, &json!({}));
    assert!(!is_failed, "{}", crate::end_of(&output));
}

/// The host's package decides the method, unless the operator names one.
#[test]
fn the_default_method_stays_with_a_package() {
    let mut tasks = vec![include("validate")];
    for (packaged, program, method) in [
        ("", "", "mirror"),
        ("deb config-files 0.1.0-1", "", "mirror"),
        ("deb installed 0.1.0-1", "/usr/bin/monsys-agent", "package"),
        ("rpm installed 0.1.0-1", "/usr/bin/monsys-agent", "package"),
        ("deb half-configured 0.1.0-1", "", "package"),
        (
            "deb installed 0.1.0-1",
            "/usr/local/bin/monsys-agent",
            "mirror",
        ),
    ] {
        let lines = if program.is_empty() {
            json!([])
        } else {
            json!([program, "monsys-agent 0.1.0"])
        };
        tasks.push(json!({
            "ansible.builtin.assert": {
                "that": [format!("__monsys_agent_method == '{method}'")],
                "fail_msg": format!("{packaged} with {program}"),
            },
            "vars": {
                "__monsys_agent_packaged": {"stdout": packaged},
                "__monsys_agent_look": {"stdout_lines": lines, "stderr_lines": []},
            },
        }));
    }
    let (is_failed, output) = Ansible::new().play(&tasks, &json!({}));
    assert!(!is_failed, "{}", crate::end_of(&output));
}
