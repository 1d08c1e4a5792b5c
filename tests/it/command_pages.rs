//! Generates the completion scripts and the pages of the manual, `src/command/pages.gz`.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use agent_core::error::Kind;
use agent_core::settings::TABLE;
use clap::{Command, CommandFactory};
use clap_complete::aot::{Bash, Fish, Generator, Zsh, generate};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use monsys_agent::cli::Cli;

/// The name of the program.
const NAME: &str = "monsys-agent";
/// The place of the packed pages.
const PACKED: &str = "src/command/pages.gz";

#[test]
fn the_generated_pages_of_the_commands_are_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PACKED);
    let generated = joined();
    // The packed bytes change with the library; only what is in them matters.
    let stored = || {
        let mut text = String::new();
        let packed = fs::read(&path).ok()?;
        let read = GzDecoder::new(&*packed).read_to_string(&mut text);
        read.ok().map(|_| text)
    };
    if std::env::var_os("MONSYS_WRITE_PAGES").is_some() && stored().as_ref() != Some(&generated) {
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        packed.write_all(generated.as_bytes()).unwrap();
        fs::write(&path, packed.finish().unwrap()).unwrap();
    }
    let is_current = stored().as_ref() == Some(&generated);
    assert!(
        is_current,
        "{PACKED} is not up to date: run `cargo xtask docs`"
    );
}

/// Returns name and text of each page in turn, each followed by a NUL.
fn joined() -> String {
    let mut joined = String::new();
    for page in scripts().into_iter().chain(pages()) {
        for part in [page.name, page.text] {
            assert!(!part.contains('\0'));
            joined.push_str(&part);
            joined.push('\0');
        }
    }
    joined
}

/// A completion script, or a page of the manual.
struct Page {
    /// The name of the shell, or of the file.
    name: String,
    /// The content.
    text: String,
}

/// Returns the script for each shell.
fn scripts() -> Vec<Page> {
    let scripts = [
        ("bash", bash()),
        ("fish", script(Fish, NAME)),
        ("zsh", script(Zsh, NAME)),
    ];
    let page = |(shell, text): (&str, String)| Page {
        name: shell.to_owned(),
        text,
    };
    scripts.map(page).into()
}

/// Generates a script. The generator changes the command, so each script has one of its own.
fn script(shell: impl Generator, name: &str) -> String {
    let mut script = Vec::new();
    generate(shell, &mut shown(&Cli::command()), name, &mut script);
    String::from_utf8(script).unwrap()
}

/// Returns the script for bash.
///
/// `clap_complete` 4.6.11 writes the hyphen of a program's name in two ways within one script, and then
/// completes nothing after a subcommand. So the script is generated for a name without a hyphen.
fn bash() -> String {
    let plain = NAME.replace('-', "_");
    let script = script(Bash, &plain);
    script.replace(
        &format!(" -o default {plain}\n"),
        &format!(" -o default {NAME}\n"),
    )
}

/// Returns the command without its hidden arguments, such as `--token`: a shell would offer them.
fn shown(command: &Command) -> Command {
    // clap needs `'static` names.
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

/// Returns all pages, the page of the program first.
fn pages() -> Vec<Page> {
    let mut cli = Cli::command().disable_help_subcommand(true);
    cli.build();
    let mut main = page(cli.clone());
    main.text.push_str(&reference(&cli));
    let mut pages = vec![main];
    for command in cli.get_subcommands().filter(|c| !c.is_hide_set()) {
        let own = page(command.clone());
        pages.extend(command.get_visible_aliases().map(|alias| Page {
            name: format!("{}-{alias}.1", cli.get_name()),
            text: format!(".so man1/{}\n", own.name),
        }));
        pages.push(own);
    }
    pages
}

fn page(command: Command) -> Page {
    let man = Man::new(command).manual("monsys-agent");
    let mut text = Vec::new();
    man.render(&mut text).unwrap();
    Page {
        name: man.get_filename(),
        text: String::from_utf8(text).unwrap(),
    }
}

/// Returns the sections that `--help` does not have: variables, files and exit codes.
fn reference(cli: &Command) -> String {
    let mut roff = Roff::new();
    roff.control("SH", ["ENVIRONMENT"]);
    for setting in TABLE.iter().filter(|setting| !setting.variables.is_empty()) {
        roff.control("TP", []);
        roff.text([bold(setting.variables.join(", "))]);
        roff.text([roman(setting.help.replace('`', ""))]);
    }
    roff.control("SH", ["FILES"]);
    for (path, what) in FILES {
        roff.control("TP", []);
        roff.text([bold(path)]);
        roff.text([roman(what)]);
    }
    roff.control("SH", ["EXIT STATUS"]);
    let codes = Kind::ALL.map(|kind| (kind.exit_code(), kind.meaning()));
    for (code, meaning) in [(0, "success, also if there was nothing to do")]
        .into_iter()
        .chain(codes)
    {
        roff.control("TP", []);
        roff.text([bold(code.to_string())]);
        roff.text([roman(meaning)]);
    }
    roff.control("SH", ["SEE ALSO"]);
    let commands = cli.get_subcommands().filter(|c| !c.is_hide_set());
    let pages: Vec<_> = commands
        .map(|command| format!("{}-{}(1)", cli.get_name(), command.get_name()))
        .collect();
    roff.text([roman(pages.join(", "))]);
    let mut text = Vec::new();
    roff.to_writer(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

const FILES: [(&str, &str); 4] = [
    (
        "/etc/monsys/agent.toml",
        "Settings, and the credential of this host. The agent keeps other keys, their order and comments.",
    ),
    (
        "/var/lib/monsys/agent-signing.key",
        "The private key of this host. The hub identifies the host by it.",
    ),
    ("/var/lib/monsys/agent-id", "The id of this host's agent."),
    (
        "/var/lib/monsys/state.json",
        "The state of the agent between runs.",
    ),
];
