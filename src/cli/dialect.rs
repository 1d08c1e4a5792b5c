//! The arguments that select a dialect, and the flags that only one dialect has.

use std::collections::BTreeMap;

use agent_core::enrolment::{FlagScope, OwnFlag};
use agent_core::flags::Flags;
use agent_core::inserted::inserted;
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::dialects::DIALECTS;

/// The identifier of `--dialect`.
const DIALECT: &str = "dialect";
/// The heading of the flags that only one dialect has.
const OWN: &str = "Options of one dialect";

/// The arguments of every command: `--dialect`, and the flags that only one dialect has.
#[derive(Debug, Default)]
pub struct DialectArgs {
    dialect: Option<String>,
    own: BTreeMap<&'static str, String>,
}

/// The flags of a dialect that only `run` and `prepare` take.
#[derive(Debug, Default)]
pub(crate) struct ServiceFlagArgs(BTreeMap<&'static str, String>);

impl DialectArgs {
    /// Returns the settings among the arguments.
    #[must_use]
    pub fn flags(&self) -> Flags {
        Flags {
            dialect: self.dialect.clone(),
            own: self.own.clone(),
            ..Flags::default()
        }
    }
}

impl ServiceFlagArgs {
    /// Adds these flags to `flags`.
    #[must_use]
    pub(crate) fn added_to(&self, mut flags: Flags) -> Flags {
        let own = self.0.iter().map(|(name, value)| (*name, value.clone()));
        flags.own.extend(own);
        flags
    }
}

impl Args for DialectArgs {
    fn augment_args(command: Command) -> Command {
        let names = DIALECTS
            .iter()
            .map(|dialect| clap::builder::PossibleValue::new(dialect.name).help(dialect.about));
        let dialect = Arg::new(DIALECT)
            .long(DIALECT)
            .value_name("DIALECT")
            .value_parser(PossibleValuesParser::new(names))
            .help("The enrolment system of the hub [default: monsys]");
        command
            .arg(dialect)
            .args(flags_of(FlagScope::Everywhere).map(arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for DialectArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self {
            dialect: matches.get_one::<String>(DIALECT).cloned(),
            own: values(matches, FlagScope::Everywhere),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for ServiceFlagArgs {
    fn augment_args(command: Command) -> Command {
        command.args(flags_of(FlagScope::Service).map(arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ServiceFlagArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(values(matches, FlagScope::Service)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Returns the arguments of `run` that select a dialect.
pub(super) fn run_arguments() -> PossibleValuesParser {
    PossibleValuesParser::new(DIALECTS.iter().filter_map(|dialect| dialect.run_argument))
}

/// Returns the name of the dialect that `run ARGUMENT` selects.
pub(super) fn of_run_argument(argument: &str) -> Option<String> {
    let dialect = DIALECTS
        .iter()
        .find(|dialect| dialect.run_argument == Some(argument))?;
    Some(dialect.name.to_owned())
}

fn flags_of(scope: FlagScope) -> impl Iterator<Item = &'static OwnFlag> {
    let all = DIALECTS.iter().flat_map(|dialect| dialect.flags);
    all.filter(move |flag| flag.scope == scope)
}

fn arg(flag: &'static OwnFlag) -> Arg {
    let arg = Arg::new(flag.flag)
        .long(flag.flag.trim_start_matches('-'))
        .help(flag.help)
        .help_heading(OWN);
    match flag.value_name {
        Some(name) => arg.value_name(name),
        None => arg.action(ArgAction::SetTrue),
    }
}

fn values(matches: &ArgMatches, scope: FlagScope) -> BTreeMap<&'static str, String> {
    let value = |flag: &OwnFlag| match flag.value_name {
        Some(_) => matches.get_one::<String>(flag.flag).cloned(),
        None => matches.get_flag(flag.flag).then(String::new),
    };
    inserted(flags_of(scope).filter_map(|flag| Some((flag.flag, value(flag)?))))
}
