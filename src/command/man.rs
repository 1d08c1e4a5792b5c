//! `monsys-agent man`.

use std::io;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use serde_json::json;

use super::Report;
use crate::cli::{Cli, ManArgs};
use agent_core::error::{Error, ErrorId, Kind, Result};
use agent_core::settings::TABLE;
use agent_core::store::atomic::{self, Owner};

/// Prints the page of the program, or writes that and a page a command into a folder.
///
/// # Errors
/// [`ErrorId::PagesUnwritable`].
pub(super) fn run(args: &ManArgs) -> Result<Report> {
    let pages = pages().map_err(|error| Error::new(ErrorId::Internal, error.to_string()))?;
    let Some(folder) = &args.folder else {
        let text = pages.into_iter().next().unwrap_or_default().text;
        return Ok(Report::new(text.clone(), json!({ "page": text })));
    };
    for page in &pages {
        page.write(folder).map_err(|error| {
            Error::new(ErrorId::PagesUnwritable, error.to_string())
                .about(folder.join(&page.file).display())
        })?;
    }
    let files: Vec<_> = pages.iter().map(|page| folder.join(&page.file)).collect();
    let text = format!("Wrote {} pages into {}\n", files.len(), folder.display());
    Ok(Report::new(text, json!({ "files": files })))
}

/// A page of the manual.
#[derive(Default)]
struct Page {
    file: String,
    text: String,
}

impl Page {
    fn write(&self, folder: &Path) -> io::Result<()> {
        let path = folder.join(&self.file);
        atomic::write(&path, self.text.as_bytes(), 0o644, Owner::ours())
    }
}

/// All pages, that of the program first.
fn pages() -> io::Result<Vec<Page>> {
    let mut cli = Cli::command().disable_help_subcommand(true);
    cli.build();
    let mut main = page(cli.clone())?;
    main.text.push_str(&reference(&cli)?);
    let mut pages = vec![main];
    for command in cli.get_subcommands().filter(|c| !c.is_hide_set()) {
        let its = page(command.clone())?;
        pages.extend(command.get_visible_aliases().map(|alias| Page {
            file: format!("{}-{alias}.1", cli.get_name()),
            text: format!(".so man1/{}\n", its.file),
        }));
        pages.push(its);
    }
    Ok(pages)
}

fn page(command: Command) -> io::Result<Page> {
    let man = Man::new(command).manual("monsys-agent");
    let mut text = Vec::new();
    man.render(&mut text)?;
    Ok(Page {
        file: man.get_filename(),
        text: String::from_utf8_lossy(&text).into_owned(),
    })
}

/// What the help has no room for: variables, files, exit codes.
fn reference(cli: &Command) -> io::Result<String> {
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
    for (code, meaning) in [(0, "done, also when it was done already")]
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
    roff.to_writer(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

const FILES: [(&str, &str); 4] = [
    (
        "/etc/monsys/agent.toml",
        "Settings, and the credential of this host. Other keys, order and comments are kept.",
    ),
    (
        "/var/lib/monsys/agent-signing.key",
        "The key that this host signs with: to the hub, it is the host.",
    ),
    ("/var/lib/monsys/agent-id", "The id of this host's agent."),
    (
        "/var/lib/monsys/state.json",
        "What the agent remembers between runs.",
    ),
];
