//! Parses a command line with the arguments of only the commands that it names.
//!
//! To make the arguments of all commands takes more than a tenth of the instructions of an enrolment.

use std::ffi::OsString;

use clap::{Args, Command, FromArgMatches};

use super::{
    Cli, CompletionsArgs, EnrolArgs, FactsArgs, Global, InstallArgs, ManArgs, PrepareArgs,
    RotateKeyArgs, RotateTokenArgs, RunArgs, StatusArgs, UnenrolArgs, UninstallArgs,
};

/// A command: its name, its other spelling, and the function that adds its arguments.
type Named = (&'static str, Option<&'static str>, fn(Command) -> Command);

const COMMANDS: [Named; 13] = [
    ("enrol", Some("enroll"), EnrolArgs::augment_args),
    ("run", None, RunArgs::augment_args),
    ("prepare", None, PrepareArgs::augment_args),
    ("status", None, StatusArgs::augment_args),
    ("rotate-token", None, RotateTokenArgs::augment_args),
    ("rotate-key", None, RotateKeyArgs::augment_args),
    ("unenrol", Some("unenroll"), UnenrolArgs::augment_args),
    ("doctor", None, EnrolArgs::augment_args),
    ("facts", None, FactsArgs::augment_args),
    ("install", None, InstallArgs::augment_args),
    ("uninstall", None, UninstallArgs::augment_args),
    ("completions", None, CompletionsArgs::augment_args),
    ("man", None, ManArgs::augment_args),
];

/// Returns the parsed command line. Returns `None` for one that has to be parsed with all commands: every text for
/// people, such as help and errors, comes from these.
pub(super) fn parse(arguments: &[OsString]) -> Option<Cli> {
    let is_named = |name: &str| arguments.iter().any(|argument| argument == name);
    let mut cli = Global::augment_args(Command::new("monsys-agent"));
    for (name, other, augment) in COMMANDS {
        if is_named(name) || other.is_some_and(is_named) {
            cli = cli.subcommand(augment(Command::new(name)).aliases(other));
        }
    }
    if !cli.has_subcommands() {
        return None;
    }
    let matches = cli.try_get_matches_from(arguments).ok()?;
    Cli::from_arg_matches(&matches).ok()
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[test]
    fn every_command_has_its_arguments() {
        let all = Cli::command();
        assert_eq!(all.get_subcommands().count(), COMMANDS.len());
        for (command, (name, other, augment)) in all.get_subcommands().zip(COMMANDS) {
            assert_eq!(command.get_name(), name);
            let aliases: Vec<&str> = command.get_all_aliases().collect();
            assert_eq!(aliases, Vec::from_iter(other));
            let arguments = |command: &Command| {
                let arguments = command.get_arguments();
                arguments
                    .map(|argument| format!("{argument:?}"))
                    .collect::<Vec<_>>()
            };
            assert_eq!(arguments(&augment(Command::new(name))), arguments(command));
        }
    }

    #[test]
    fn a_command_line_means_the_same_as_with_all_commands() {
        for line in [
            "enrol",
            "enroll --hub-url https://h --tag a --tag=b --force -vv --output json",
            "--root /r -q enrol --dialect mimir --wait 5s",
            "-v install --no-start --ephemeral --root enrol",
            "run mimir --root=/x",
            "run",
            "prepare",
            "status --check-hub",
            "rotate-token",
            "rotate-key --log-format json",
            "unenroll",
            "doctor --ca-file /enrol",
            "facts --allow-http",
            "uninstall --purge",
            "completions bash",
            "man /folder",
            "man install",
        ] {
            let arguments = || ["monsys-agent"].into_iter().chain(line.split(' '));
            let named = parse(&arguments().map(OsString::from).collect::<Vec<_>>());
            let all = Cli::try_parse_from(arguments()).ok();
            assert_eq!(format!("{named:?}"), format!("{all:?}"), "{line}");
        }
    }

    #[test]
    fn help_and_errors_come_from_all_commands() {
        for line in [
            "",
            "--help",
            "--version",
            "help enrol",
            "enrol --help",
            "enrol --purge",
            "enrol enrol",
            "--root enrol",
            "--output xml enrol",
            "nonsense",
        ] {
            let arguments = ["monsys-agent"]
                .into_iter()
                .chain(line.split_terminator(' '));
            let arguments: Vec<_> = arguments.map(OsString::from).collect();
            assert!(parse(&arguments).is_none(), "{line}");
        }
    }
}
