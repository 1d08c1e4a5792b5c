//! Removal of a secret from the arguments: some dialects document a flag for it, such as Mimir's
//! `--enrollment-secret=VALUE`.
//!
//! Every user of the host can read a process's arguments (proc(5), `/proc/PID/cmdline`). So the program
//! first executes itself again with the secret in the environment, which only its own user can read.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::process::Command;

use agent_core::error::{Error, ErrorId};
use agent_core::settings::table::DIALECT;

use crate::dialects::DIALECTS;

/// A command line without its secret, and the variables that replace it.
#[derive(Debug, PartialEq, Eq)]
pub struct WithoutSecret {
    /// The flag whose value was the secret.
    pub flag: &'static str,
    /// The other arguments; the first is the program's name.
    pub arguments: Vec<OsString>,
    /// The variables for the secret, and for the dialect.
    pub variables: Vec<(&'static str, OsString)>,
}

impl WithoutSecret {
    /// Returns the warning for the operator who typed the secret.
    #[must_use]
    pub fn warning(&self) -> String {
        let Self {
            flag, variables, ..
        } = self;
        let variable = variables.first().map_or("", |(name, _)| name);
        format!(
            "warning: {flag} was visible in the list of processes for a moment, and may be in the shell's history; its value is removed from the list now\n  hint:  use {variable} in the environment, --token-file PATH, --token-file - (standard input) or --token-command CMD\n"
        )
    }

    /// Replaces this process by the same program with these arguments and variables. Returns only if
    /// that fails.
    #[must_use]
    pub fn execute_again(&self) -> Error {
        let mut arguments = self.arguments.iter();
        let mut program = Command::new("/proc/self/exe");
        if let Some(name) = arguments.next() {
            program.arg0(name);
        }
        program.args(arguments).envs(self.variables.iter().cloned());
        let cause = format!("it could not be removed from them: {}", program.exec());
        Error::new(ErrorId::TokenOnCommandLine, cause).about(self.flag)
    }
}

/// Removes the secret from `arguments`. Returns `None` if they contain none.
///
/// The variables also select the dialect of the flag, unless an argument selects one.
#[must_use]
pub fn remove_secret(arguments: &[OsString]) -> Option<WithoutSecret> {
    DIALECTS.iter().find_map(|dialect| {
        let (flag, variable) = dialect.secret_flag?;
        remove_flag(arguments, dialect.name, flag, variable)
    })
}

fn remove_flag(
    arguments: &[OsString],
    dialect: &str,
    flag: &'static str,
    variable: &'static str,
) -> Option<WithoutSecret> {
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
    Some(WithoutSecret {
        flag,
        arguments: left,
        variables,
    })
}

/// Returns the value of `flag` in an argument `FLAG=VALUE`.
fn value(argument: &OsStr, flag: &str) -> Option<OsString> {
    let value = argument.as_bytes().strip_prefix(flag.as_bytes())?;
    Some(OsString::from_vec(value.strip_prefix(b"=")?.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(line: &str) -> Option<(String, String)> {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let cleaned = remove_secret(&arguments)?;
        let variables: Vec<String> = cleaned
            .variables
            .iter()
            .map(|(name, value)| format!("{name}={}", value.to_string_lossy()))
            .collect();
        let left = cleaned.arguments.join(OsStr::new(" "));
        Some((left.into_string().unwrap(), variables.join(" ")))
    }

    #[test]
    fn a_secret_is_removed_at_every_position() {
        for (line, left) in [
            ("a install --enrollment-secret=s3cret", "a install"),
            (
                "a enrol --enrollment-secret s3cret --force",
                "a enrol --force",
            ),
            ("a --enrollment-secret=s3cret enrol", "a enrol"),
        ] {
            let variables = "MIMIR_ENROLLMENT_SECRET=s3cret MONSYS_DIALECT=mimir";
            assert_eq!(cleaned(line), Some((left.into(), variables.into())));
        }
        let (_, variables) = cleaned("a enrol --dialect=monsys --enrollment-secret=").unwrap();
        assert_eq!(variables, "MIMIR_ENROLLMENT_SECRET=");
    }

    #[test]
    fn other_command_lines_do_not_change() {
        for line in [
            "a enrol --force",
            "a enrol --enrollment-secret",
            "a --enrollment-secrets=1",
        ] {
            assert_eq!(cleaned(line), None, "{line}");
        }
    }
}
