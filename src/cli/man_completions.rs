//! Arguments of `completions` and `man`.

use clap::{Args, ValueEnum};

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell that reads it
    #[arg(value_enum)]
    pub shell: Shell,
}

/// The shells that there are completions for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// bash, with the package bash-completion
    Bash,
    /// fish
    Fish,
    /// zsh
    Zsh,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Folder to write a page a command into; it has to exist
    #[arg(value_name = "DIR")]
    pub folder: Option<std::path::PathBuf>,
}
