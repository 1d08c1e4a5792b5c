//! `monsys-agent completions`.

use clap::{Command, CommandFactory};
use clap_complete::aot::{Bash, Fish, Generator, Zsh, generate};
use serde_json::json;

use super::Report;
use crate::cli::{Cli, CompletionsArgs, Shell};

/// The script by which a shell completes our command line.
pub(super) fn run(args: &CompletionsArgs) -> Report {
    let mut cli = shown(&Cli::command());
    let name = cli.get_name().to_owned();
    let script = match args.shell {
        Shell::Bash => bash(&mut cli, &name),
        Shell::Fish => script(Fish, &mut cli, &name),
        Shell::Zsh => script(Zsh, &mut cli, &name),
    };
    Report::new(script.clone(), json!({ "script": script }))
}

fn script(shell: impl Generator, cli: &mut Command, name: &str) -> String {
    let mut script = Vec::new();
    generate(shell, cli, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// `clap_complete` 4.6.11 spells the hyphen of a program's name in two ways within one script, so
/// that nothing behind a subcommand is completed: it is given a name without one.
fn bash(cli: &mut Command, name: &str) -> String {
    let plain = name.replace('-', "_");
    let script = script(Bash, cli, &plain);
    script.replace(
        &format!(" -o default {plain}\n"),
        &format!(" -o default {name}\n"),
    )
}

/// The same command without what its help hides: a shell would offer that too, `--token` first.
fn shown(command: &Command) -> Command {
    // clap wants names that live for ever, and ours do: a few, once, before the program ends.
    let name: &'static str = command.get_name().to_owned().leak();
    let aliases = command.get_visible_aliases();
    Command::new(name)
        .version(agent_core::VERSION)
        .disable_help_subcommand(true)
        .about(command.get_about().cloned().unwrap_or_default())
        .visible_aliases(aliases.map(|alias| -> &'static str { alias.to_owned().leak() }))
        .args(command.get_arguments().filter(|a| !a.is_hide_set()))
        .subcommands(
            command
                .get_subcommands()
                .filter(|subcommand| !subcommand.is_hide_set())
                .map(shown),
        )
}
