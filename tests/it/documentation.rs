//! The generated pages are up to date, and the documented command line exists.

use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_generated_pages_are_up_to_date() {
    for (path, generated) in [
        (
            "docs/configuration.md",
            monsys_agent::reference::configuration_md(),
        ),
        ("docs/errors.md", monsys_agent::reference::errors_md()),
    ] {
        if std::env::var_os("MONSYS_WRITE_PAGES").is_some() {
            let root = Path::new(env!("CARGO_MANIFEST_DIR"));
            fs::write(root.join(path), &generated).unwrap();
        }
        assert_eq!(
            read(path),
            generated,
            "{path} is not up to date: run `cargo xtask docs`"
        );
    }
}

/// Words and paths that are not in a generated page.
#[test]
fn states_of_the_service_and_the_first_boot_are_documented() {
    use monsys_agent::install::ServiceOutcome::{
        None, NotStarted, Queued, Restarted, Running, Started,
    };
    let install = read("docs/install.md");
    for outcome in [Started, Queued, Restarted, Running, NotStarted, None] {
        let row = format!("\n| `{}` | ", outcome.word());
        assert!(install.contains(&row), "docs/install.md has no row {row}");
    }
    let operations = read("docs/operations.md");
    for word in ["`first_boot`", "`next_try`", "`trying`", "`final`", "86"] {
        assert!(operations.contains(word), "docs/operations.md: {word}");
    }
    let cloud_init = read("docs/cloud-init.md");
    for path in ["/etc/monsys-boot", "/var/lib/monsys-boot/settings"] {
        assert!(cloud_init.contains(path), "docs/cloud-init.md: {path}");
    }
}

#[test]
fn every_flag_of_the_table_exists_and_every_flag_of_enrol_is_in_the_table() {
    use clap::CommandFactory;
    let command = monsys_agent::cli::Cli::command();
    let enrol = command.find_subcommand("enrol").unwrap();
    let flags: Vec<String> = enrol
        .get_arguments()
        .filter(|argument| !argument.is_hide_set() && !argument.is_global_set())
        .filter_map(|argument| Some(format!("--{}", argument.get_long()?)))
        .collect();
    let own = monsys_agent::dialects::DIALECTS.iter();
    let own = own.flat_map(|dialect| dialect.settings.iter());
    let table: Vec<&str> = agent_core::settings::TABLE
        .iter()
        .chain(own)
        .filter_map(|setting| setting.flag)
        .collect();
    for flag in &table {
        assert!(flags.iter().any(|f| f == flag), "{flag} does not exist");
    }
    // Flags without a setting, and short forms.
    let others = [
        "--force",
        "--dry-run",
        "--defer",
        "--offline",
        "--tag",
        "--help",
    ];
    for flag in &flags {
        assert!(
            table.contains(&flag.as_str()) || others.contains(&flag.as_str()),
            "{flag} is not in the table of settings"
        );
    }
}

#[test]
fn every_flag_that_the_docs_show_exists() {
    use clap::CommandFactory;
    let mut command = monsys_agent::cli::Cli::command();
    command.build();
    // The docs mention `--token` as a flag that does not exist.
    let mut known: Vec<String> = vec!["--token".into()];
    for subcommand in command.get_subcommands() {
        let flags = subcommand.get_arguments().filter_map(clap::Arg::get_long);
        known.extend(flags.map(|flag| format!("--{flag}")));
    }
    let mut seen = 0;
    for page in [
        "README.md",
        "ARCHITECTURE.md",
        "SECURITY.md",
        "docs/protocol.md",
    ] {
        let is_others = |line: &&str| {
            ["cargo ", "curl ", "systemctl "]
                .iter()
                .any(|other| line.contains(other))
        };
        for line in read(page).lines().filter(|line| !is_others(line)) {
            for word in line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-') {
                if word.starts_with("--") && word.len() > 2 && !word.ends_with('-') {
                    assert!(
                        known.iter().any(|flag| flag == word),
                        "{page}: {word} in: {line}"
                    );
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 10);
}

/// Each threat of the threat model, and each public report, has to have a test.
#[test]
fn every_test_that_a_page_names_exists() {
    fn sources(folder: &Path, found: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    for folder in ["tests", "mock-hub/tests", "mock-hub/src", "crates", "src"] {
        sources(&root.join(folder), &mut code);
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    for (path, least) in [("docs/threat-model.md", 20), ("tests/REPORTS.md", 150)] {
        let page = read(path);
        let mut named = 0;
        for (_, rest) in page
            .match_indices("::")
            .map(|(at, _)| page.split_at(at + 2))
        {
            let name: String = rest.chars().take_while(|c| is_name(*c)).collect();
            if name.is_empty() || name == "NAME" {
                continue;
            }
            named += 1;
            assert!(
                code.contains(&format!("fn {name}(")),
                "{path}: there is no test {name}"
            );
        }
        assert!(named > least, "{path}: only {named} tests are named");
    }
}
