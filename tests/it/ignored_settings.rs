//! Settings that a dialect has no use for: a flag is refused, and a variable is warned of.

use crate::common::TestHost;

/// Flags and variables of monsys that each dialect ignores.
const IGNORED: [(&str, &[&str], &[&str]); 3] = [
    (
        "lyftdata",
        &["--config", "--state-dir", "--tag", "--tags", "--role"],
        &[
            "MONSYS_CONFIG",
            "MONSYS_STATE_DIR",
            "MONSYS_TAGS",
            "MONSYS_ROLE",
        ],
    ),
    (
        "ravenxcope",
        &["--state-dir", "--tag", "--tags", "--role"],
        &["MONSYS_CONFIG", "MONSYS_STATE_DIR", "MONSYS_TAGS"],
    ),
    (
        "mimir",
        &["--config", "--tag", "--tags", "--role"],
        &["MONSYS_CONFIG", "MONSYS_STATE_DIR", "MONSYS_ROLE"],
    ),
];

#[test]
fn an_ignored_flag_is_refused_with_its_name_and_the_dialect() {
    let host = TestHost::new();
    for (dialect, flags, _) in IGNORED {
        for flag in flags {
            let arguments = ["enrol", "--dialect", dialect, flag, "/value"];
            let run = host.agent(&arguments).run().expect(64);
            run.expect_stderr(&[&format!("{flag}\n"), dialect, "--hub-url"]);
        }
    }
    // The commands that take only paths.
    for command in ["status", "facts", "run", "prepare"] {
        let arguments = [command, "--dialect", "mimir", "--config", "/value"];
        host.agent(&arguments)
            .run()
            .expect(if command == "prepare" { 0 } else { 64 })
            .expect_stderr(&["--config", "mimir"]);
    }
}

#[test]
fn an_ignored_variable_is_warned_of_once() {
    let host = TestHost::new();
    for (dialect, _, variables) in IGNORED {
        let mut command = host.agent(&["status", "--dialect", dialect]);
        for name in variables {
            command = command.env(name, "/value");
        }
        let run = command.run();
        assert!([0, 64, 78].contains(&run.code), "{run:?}");
        for name in variables {
            let warning = format!("{name} is ignored: the dialect {dialect}");
            assert_eq!(run.stderr.matches(&warning).count(), 1, "{}", run.stderr);
        }
    }
    // Flags and variables of the dialect's own, and of a monsys host, are none of those.
    for (dialect, flag) in [("ravenxcope", "--config"), ("mimir", "--state-dir")] {
        let run = host.agent(&["status", "--dialect", dialect, flag, "/srv/x"]);
        let run = run.env("MONSYS_HUB_URL", "https://127.0.0.1:9").run();
        assert!(!run.stderr.contains("ignored"), "{}", run.stderr);
        assert!(!run.stderr.contains("no such setting"), "{}", run.stderr);
    }
    let run = host.agent(&["status"]);
    assert!(!run.env("MONSYS_TAGS", "a").run().stderr.contains("ignored"));
}
