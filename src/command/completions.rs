//! `monsys-agent completions`.

use clap::{Command, CommandFactory};
use clap_complete::aot::{Bash, Fish, Generator, Zsh, generate};
use serde_json::json;

use super::Report;
use crate::cli::{Cli, CompletionsArgs, Shell};

/// Returns the script with which a shell completes the command line.
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

/// Returns the script for bash.
///
/// `clap_complete` 4.6.11 writes the hyphen of a program's name in two ways within one script, and then
/// completes nothing after a subcommand. So the script is generated for a name without a hyphen.
fn bash(cli: &mut Command, name: &str) -> String {
    let plain = name.replace('-', "_");
    let script = script(Bash, cli, &plain);
    script.replace(
        &format!(" -o default {plain}\n"),
        &format!(" -o default {name}\n"),
    )
}

/// Returns the command without its hidden arguments, such as `--token`: a shell would offer them.
fn shown(command: &Command) -> Command {
    // clap needs `'static` names. Few are leaked, once, just before the program ends.
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
