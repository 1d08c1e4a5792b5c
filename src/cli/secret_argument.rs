//! A secret as the value of a flag, as a dialect's own documentation has it: `--enrollment-secret=VALUE` of
//! Mimir.
//!
//! Every user of the host can read a process's arguments, so the value is taken out of them before
//! anything else is done: the program replaces itself, with the secret in the environment, which
//! only its own user can read.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use agent_core::settings::table::DIALECT;

use crate::dialects::DIALECTS;

/// A command line without its secret.
#[derive(Debug, PartialEq, Eq)]
pub struct TakenOut {
    /// The flag that the secret was the value of.
    pub flag: &'static str,
    /// The arguments that are left, the program's name first.
    pub arguments: Vec<OsString>,
    /// Variables that say the rest.
    pub variables: Vec<(&'static str, OsString)>,
}

impl TakenOut {
    /// Returns the warning for whoever wrote the secret into a command line.
    #[must_use]
    pub fn warning(&self) -> String {
        let Self {
            flag, variables, ..
        } = self;
        let variable = variables.first().map_or("", |(name, _)| name);
        format!(
            "warning: {flag} was in the list of processes for a moment, and may be in the shell's history; it is taken out of the list now\n  better: {variable} in the environment, --token-file PATH, --token-file - (standard input) or --token-command CMD\n"
        )
    }
}

/// Takes the secret out, if there is one. The variables also select the dialect, unless an argument does.
#[must_use]
pub fn take_out(arguments: &[OsString]) -> Option<TakenOut> {
    DIALECTS.iter().find_map(|dialect| {
        let (flag, variable) = dialect.secret_flag?;
        take_out_of(arguments, dialect.name, flag, variable)
    })
}

fn take_out_of(
    arguments: &[OsString],
    dialect: &str,
    flag: &'static str,
    variable: &'static str,
) -> Option<TakenOut> {
    let mut left = Vec::with_capacity(arguments.len());
    let mut secret = None;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match value(argument, flag) {
            Some(value) => secret = Some(value),
            None if argument == flag => secret = Some(rest.next()?.clone()),
            None => left.push(argument.clone()),
        }
    }
    let mut variables = vec![(variable, secret?)];
    let selects = |argument: &OsString| argument.as_bytes().starts_with(b"--dialect");
    if !left.iter().any(selects) {
        variables.push((DIALECT.variables[0], dialect.into()));
    }
    Some(TakenOut {
        flag,
        arguments: left,
        variables,
    })
}

/// Returns the value behind the equals sign of `flag`.
fn value(argument: &OsStr, flag: &str) -> Option<OsString> {
    let value = argument.as_bytes().strip_prefix(flag.as_bytes())?;
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
