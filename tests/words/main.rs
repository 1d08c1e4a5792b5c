//! The word check: words that the project does not use, in tracked text files and in commit subjects.
//!
//! `words.txt` lists the words, `allowed.txt` the exceptions; docs/style.md explains both.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a file that is not as it should be ends the test"
)]

mod list;
mod text;

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use list::{Allowed, Rule};
use text::Words;

/// Folders and files whose words are still to be changed. A new file belongs to none of them.
const NOT_YET_REWORDED: [&str; 8] = [
    "ARCHITECTURE.md",
    "crates/",
    "docs/configuration.md", // generated from src/
    "docs/errors.md",        // generated from src/
    "fuzz/",
    "mock-hub/",
    "src/",
    "tests/",
];

/// Files that hold the words on purpose.
const HOLDS_THE_WORDS: [&str; 4] = [
    "docs/style.md", // the table of words
    "tests/words/allowed.txt",
    "tests/words/main.rs", // the examples below
    "tests/words/words.txt",
];

/// The last commit before the words were changed. Subjects of later commits are checked.
const LAST_UNCHECKED_COMMIT: &str = "8d065b7";

/// Runs git in the repository and returns its output, or `None` when git fails.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("git has to be installed");
    let text = String::from_utf8(output.stdout).expect("git prints UTF-8");
    output.status.success().then_some(text)
}

/// Returns the tracked and the new files that are text and are checked, with their content.
fn files() -> Vec<(String, String)> {
    let listed = [
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ];
    let listed = git(&listed).expect("the tests run in a git repository");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let is_checked = |path: &&str| {
        // The check follows its own rules from the beginning.
        let is_reworded = path.starts_with("tests/words/") || !is_below(path, &NOT_YET_REWORDED);
        is_reworded && !is_below(path, &HOLDS_THE_WORDS)
    };
    listed
        .split_terminator('\0')
        .filter(is_checked)
        .filter_map(|path| {
            let text = fs::read_to_string(root.join(path)).ok()?; // deleted, or not UTF-8
            (!text.contains('\0')).then(|| (path.to_owned(), text))
        })
        .collect()
}

fn is_below(path: &str, places: &[&str]) -> bool {
    places
        .iter()
        .any(|place| path == *place || place.ends_with('/') && path.starts_with(place))
}

/// Returns `(hash, subject)` of each commit that is checked; merges have generated subjects.
fn commits() -> Vec<(String, String)> {
    let after = format!("{LAST_UNCHECKED_COMMIT}..HEAD");
    let log = |range: &str| git(&["log", "--no-merges", "--format=%h%x09%s", range]);
    let is_shallow = || git(&["rev-parse", "--is-shallow-repository"]).as_deref() == Some("true\n");
    // A shallow clone without that commit has only later ones.
    let subjects = log(&after).or_else(|| is_shallow().then(|| log("HEAD"))?);
    let subjects = subjects.expect("git log lists the commits since the words were changed");
    let fields = subjects.lines().filter_map(|line| line.split_once('\t'));
    fields
        .map(|(hash, subject)| (hash.to_owned(), subject.to_owned()))
        .collect()
}

/// Appends a line to `report` for each word of `text` that is neither right nor allowed.
fn check(place: &str, text: &str, rules: &[Rule], allowed: &mut [Allowed], report: &mut String) {
    let is_rust = Path::new(place).extension().is_some_and(|end| end == "rs");
    let words = Words::of(text, is_rust);
    let mut all: Vec<_> = rules.iter().flat_map(|rule| rule.find(&words)).collect();
    all.sort_by_key(|(_, found)| found.line);
    for (rule, found) in all {
        let line = text.lines().nth(found.line - 1).unwrap_or_default().trim();
        let mut exceptions = allowed.iter_mut();
        if let Some(exception) = exceptions.find(|one| one.covers(place, line, &found.text)) {
            exception.is_used = true;
            continue;
        }
        let _ = writeln!(
            report,
            "{place}:{}: `{}`: write {}\n    {line}",
            found.line, found.text, rule.instead
        );
    }
}

#[test]
fn files_and_commit_subjects_use_the_words_of_the_style_guide() {
    let rules = list::rules();
    let mut allowed = list::allowed();
    let mut report = String::new();
    let files = files();
    assert!(files.len() > 50, "only {} files are checked", files.len());
    for (path, text) in files {
        check(&path, &text, &rules, &mut allowed, &mut report);
    }
    for (hash, subject) in commits() {
        let place = format!("commit {hash}");
        check(&place, &subject, &rules, &mut allowed, &mut report);
    }
    for unused in allowed.iter().filter(|one| !one.is_used) {
        let _ = writeln!(report, "tests/words/allowed.txt: nothing needs {unused}");
    }
    assert!(report.is_empty(), "docs/style.md has the rules:\n{report}");
}

#[test]
fn each_rule_finds_its_own_words() {
    for rule in list::rules() {
        let example = rule.example();
        for text in [
            example.clone(),
            example.to_uppercase(),
            example.replace(' ', "\n/// "),
        ] {
            let found = rule.find(&Words::of(&text, true)).count();
            assert_eq!(found, 1, "`{}` in {text:?}", rule.pattern);
        }
    }
}

#[test]
fn a_word_is_found_in_names_and_in_sentences() {
    let found = |text: &str| {
        let mut report = String::new();
        check("a.rs", text, &list::rules(), &mut [], &mut report);
        report
            .lines()
            .filter(|line| !line.starts_with("  "))
            .count()
    };
    for (text, count) in [
        ("fn tell_all() {}", 1),
        ("struct TellerOfAll;", 1),
        ("mend: do this, or mend that", 2),
        ("let is_settled = 1; // settled", 2),
        ("/// What the host sends.\n/// What is a fine word here.", 1),
        ("/// Sends the facts.\n///\n/// Whether they arrive.", 0),
        ("//! How the step works.", 1),
        ("let what = \"/// not a docstring\"; // What", 0),
        ("it is no path", 1),
        (
            "there is no path; there\n    // is no file; it is no longer here",
            0,
        ),
        ("the world, which is world-readable", 1),
        (
            "a recommended amendment to intellect, history and distilled",
            0,
        ),
    ] {
        assert_eq!(found(text), count, "{text}");
    }
}
