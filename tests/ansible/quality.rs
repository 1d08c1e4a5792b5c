//! The collection in the tools of those who publish and use it: Galaxy's importer, Ansible's sanity tests,
//! and plays with tags.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::collection::{Ansible, COLLECTION, ROLE, root};

/// ansible-test installs pip from a script on its own server, unless the script is in its cache. Python has the
/// same pip.
const GET_PIP: &str = "import ensurepip\nensurepip.bootstrap()\n";

#[test]
fn galaxy_imports_the_collection() {
    let ansible = Ansible::new();
    let folder = ansible.file("built");
    let to = folder.to_str().unwrap();
    ansible.run(
        "ansible-galaxy",
        &["collection", "build", "--output-path", to],
        COLLECTION,
    );
    let built = fs::read_dir(&folder)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let import = ["-m", "galaxy_importer.main", built.to_str().unwrap()];
    ansible.run("python", &import, ".");
}

#[test]
fn ansible_test_finds_no_fault() {
    let ansible = Ansible::new();
    let cache = ansible.file(".ansible/test/cache");
    fs::create_dir_all(&cache).unwrap();
    fs::write(cache.join("get_pip_24_2.py"), GET_PIP).unwrap();
    // A copy, because ansible-test writes its results into the collection.
    let gotrust = ansible.file("ansible_collections/gotrust");
    fs::create_dir_all(&gotrust).unwrap();
    let installed = ansible.file(".ansible/collections/ansible_collections/gotrust/monsys");
    symlink(installed, gotrust.join("monsys")).unwrap();
    let folder = gotrust.join("monsys");
    let found = ansible.run(
        "ansible-test",
        &["sanity", "--local", "--color=no"],
        folder.to_str().unwrap(),
    );
    for test in ["runtime-metadata", "shellcheck", "yamllint"] {
        assert!(found.contains(&format!("\"{test}\"")), "{found}");
    }
    assert!(!found.contains("not found"), "{found}");
}

/// With `--tags`, an included role runs only what has the tag itself.
#[test]
fn a_tag_selects_the_role() {
    let ansible = Ansible::new();
    let include = |apply: bool| {
        let mut role = json!({"name": ROLE});
        if apply {
            role["apply"] = json!({"tags": ["monsys"]});
        }
        json!({"ansible.builtin.include_role": role, "tags": ["monsys"]})
    };
    let play = |key: &str, value| {
        let mut play = json!({"hosts": "all", "gather_facts": false});
        play[key] = value;
        json!([play]).to_string()
    };
    let join = fs::read_to_string(root().join(COLLECTION).join("playbooks/join.yml")).unwrap();
    let cases = [
        ("the shipped playbook", join, true),
        ("apply", play("tasks", json!([include(true)])), true),
        (
            "roles",
            play("roles", json!([{"role": ROLE, "tags": ["monsys"]}])),
            true,
        ),
        (
            "a block",
            play(
                "tasks",
                json!([{"block": [include(false)], "tags": ["monsys"]}]),
            ),
            true,
        ),
        ("no apply", play("tasks", json!([include(false)])), false),
    ];
    for (what, text, runs) in cases {
        let file = ansible.file("play.yml");
        fs::write(&file, text).unwrap();
        let output = check(&ansible, &file);
        assert_eq!(
            output.contains("the program would be installed"),
            runs,
            "{what}\n{output}"
        );
    }
}

/// Predicts the play with the tag on this machine, which has no agent in the role's eyes.
fn check(ansible: &Ansible, file: &Path) -> String {
    let variables = json!({
        "ansible_become": false,
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "monsys_agent_method": "mirror",
        "monsys_agent_token": "enrl_Ab0defghij-_ABCDEFGHIJ0123456789klmnopqrstu",
        "__monsys_agent_own_paths": ["/nonexistent/monsys-agent"],
    });
    let variables = variables.to_string();
    let file = file.to_str().unwrap();
    let arguments = [
        "--check",
        "--connection=local",
        "--inventory=localhost,",
        "--tags=monsys",
        "--extra-vars",
        &variables,
        file,
    ];
    ansible.run("ansible-playbook", &arguments, ".")
}
