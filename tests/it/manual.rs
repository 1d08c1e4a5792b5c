//! Completions and manual pages, and what they omit.

use std::fs;
use std::process::Command;

use crate::common::TestHost;

fn script(shell: &str) -> String {
    let run = TestHost::new().agent(&["completions", shell]).run();
    run.expect(0).stdout
}

/// Returns the completions of bash for the last word.
fn offers(words: &[&str]) -> Vec<String> {
    let line = format!(
        r#"{}
        complete=$(complete -p monsys-agent); complete=${{complete#*-F }}
        COMP_WORDS=(monsys-agent "$@"); COMP_CWORD=$#
        "${{complete%% *}}" monsys-agent "${{COMP_WORDS[-1]}}" "${{COMP_WORDS[-2]}}"
        printf '%s\n' "${{COMPREPLY[@]}}""#,
        script("bash")
    );
    let mut bash = Command::new("bash");
    let output = bash.args(["-c", &line, "bash"]).args(words).output();
    let output = output.unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
    let offers = String::from_utf8(output.stdout).unwrap();
    offers.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_and_values() {
    assert_eq!(offers(&["enro"]), ["enrol", "enroll"]);
    assert_eq!(offers(&["status", "--output", "j"]), ["json"]);
    assert_eq!(offers(&["completions", "f"]), ["fish"]);
    // Both spellings, and never the refused `--token`.
    for command in ["enrol", "enroll", "doctor"] {
        assert_eq!(
            offers(&[command, "--token"]),
            ["--token-file", "--token-command"]
        );
    }
}

#[test]
fn completions_omit_the_refused_token_flag() {
    for (shell, offered, refused) in [
        ("bash", " --token-file ", " --token "),
        ("fish", " -l token-file ", " -l token "),
        ("zsh", "'--token-file=[", "'--token="),
    ] {
        let script = script(shell);
        assert!(script.contains("enroll"), "{shell}");
        assert!(script.contains(offered), "{shell}");
        assert!(!script.contains(refused), "{shell}");
    }
    let host = TestHost::new();
    host.agent(&["completions", "tcsh"]).run().expect(64);
}

#[test]
fn man_prints_the_page_of_the_program() {
    let run = TestHost::new().agent(&["man"]).run().expect(0);
    for part in [
        ".TH monsys-agent 1",
        "monsys\\-agent\\-enrol(1)",
        "MONSYS_TOKEN",
        "agent\\-signing.key",
        "78",
    ] {
        assert!(run.stdout.contains(part), "{part} in {}", run.stdout);
    }
}

#[test]
fn man_writes_a_page_for_each_command_and_spelling() {
    let host = TestHost::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let run = host.agent(&["man", path, "--output", "json"]).run();
    let run = run.expect(0);
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert!(read("monsys-agent.1").contains("SUBCOMMANDS"));
    assert_eq!(
        read("monsys-agent-enroll.1"),
        ".so man1/monsys-agent-enrol.1\n"
    );
    let enrol = read("monsys-agent-enrol.1");
    assert!(enrol.contains("\\-\\-token\\-file"), "{enrol}");
    assert!(!enrol.contains("\\-\\-token\\fR"), "{enrol}");
    let files = run.json()["files"].as_array().unwrap().len();
    assert_eq!(files, fs::read_dir(folder.path()).unwrap().count());
}

#[test]
fn man_names_the_page_that_it_could_not_write() {
    let host = TestHost::new();
    let run = host.agent(&["man", "/no/such/folder"]).run().expect(73);
    run.expect_stderr(&["/no/such/folder/monsys-agent.1", "create the folder"]);
}
