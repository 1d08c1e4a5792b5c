//! `--enrollment-secret=VALUE`, as Mimir's own documentation has it.
//!
//! Every user of the host can read a process's arguments, so the value is taken out of them before
//! anything else is done: the program replaces itself, with the secret in the environment, which
//! only its own user can read.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

const FLAG: &str = "--enrollment-secret";

/// A command line without its secret.
#[derive(Debug, PartialEq, Eq)]
pub struct TakenOut {
    /// The arguments that are left, the program's name first.
    pub arguments: Vec<OsString>,
    /// Variables that say the rest.
    pub variables: Vec<(&'static str, OsString)>,
}

/// What people are told who wrote a secret into a command line.
pub const WARNING: &str = "warning: --enrollment-secret was in the list of processes for a moment, and may be in the shell's history; it is taken out of the list now\n  better: MIMIR_ENROLLMENT_SECRET in the environment, --token-file PATH, --token-file - (standard input) or --token-command CMD\n";

/// Takes the secret out, if there is one. It also says which system is meant, unless something else
/// does.
#[must_use]
pub fn take_out(arguments: &[OsString]) -> Option<TakenOut> {
    let mut left = Vec::with_capacity(arguments.len());
    let mut secret = None;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match value(argument) {
            Some(value) => secret = Some(value),
            None if argument == FLAG => secret = Some(rest.next()?.clone()),
            None => left.push(argument.clone()),
        }
    }
    let mut variables = vec![("MIMIR_ENROLLMENT_SECRET", secret?)];
    let names_system = |argument: &OsString| argument.as_bytes().starts_with(b"--dialect");
    if !left.iter().any(names_system) {
        variables.push((crate::settings::table::DIALECT.variables[0], "mimir".into()));
    }
    Some(TakenOut {
        arguments: left,
        variables,
    })
}

/// The value behind the equals sign.
fn value(argument: &OsStr) -> Option<OsString> {
    let value = argument.as_bytes().strip_prefix(FLAG.as_bytes())?;
    Some(OsString::from_vec(value.strip_prefix(b"=")?.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken_out(line: &str) -> Option<(String, String)> {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let taken = take_out(&arguments)?;
        let variables: Vec<String> = taken
            .variables
            .iter()
            .map(|(name, value)| format!("{name}={}", value.to_string_lossy()))
            .collect();
        let left = taken.arguments.join(OsStr::new(" "));
        Some((left.into_string().unwrap(), variables.join(" ")))
    }

    #[test]
    fn a_secret_is_taken_out_wherever_it_stands() {
        for (line, left) in [
            ("a install --enrollment-secret=s3cret", "a install"),
            (
                "a enrol --enrollment-secret s3cret --force",
                "a enrol --force",
            ),
            ("a --enrollment-secret=s3cret enrol", "a enrol"),
        ] {
            let variables = "MIMIR_ENROLLMENT_SECRET=s3cret MONSYS_DIALECT=mimir";
            assert_eq!(taken_out(line), Some((left.into(), variables.into())));
        }
        let (_, variables) = taken_out("a enrol --dialect=monsys --enrollment-secret=").unwrap();
        assert_eq!(variables, "MIMIR_ENROLLMENT_SECRET=");
    }

    #[test]
    fn other_command_lines_are_left_alone() {
        for line in [
            "a enrol --force",
            "a enrol --enrollment-secret",
            "a --enrollment-secrets=1",
        ] {
            assert_eq!(taken_out(line), None, "{line}");
        }
    }
}
