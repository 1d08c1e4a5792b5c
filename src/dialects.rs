//! The only list of dialects, and the choice of one.

use agent_core::enrolment::{self, Descriptor, Dialect, Enrolment};
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::flags::Flags;
use agent_core::plain::given;
use agent_core::settings::table;
use agent_core::store::lock::Lock;

/// Every dialect, in the order of the documentation. The first is the default.
pub static DIALECTS: &[&Descriptor] = &[
    &dialect_monsys::DESCRIPTOR,
    &dialect_ravenxcope::DESCRIPTOR,
    &dialect_mimir::DESCRIPTOR,
    &dialect_lyftdata::DESCRIPTOR,
    #[cfg(feature = "example-dialect")]
    &dialect_example::DESCRIPTOR,
];

/// Returns the dialect of a host for which no other one is named.
#[must_use]
pub fn default() -> &'static Descriptor {
    DIALECTS[0]
}

/// Returns true if `dialect` is the default.
#[must_use]
pub fn is_default(dialect: &Descriptor) -> bool {
    dialect.name == default().name
}

/// Returns the names of the environment variables that contain a secret of any dialect.
pub fn secret_variables() -> impl Iterator<Item = &'static str> {
    DIALECTS
        .iter()
        .flat_map(|dialect| dialect.secret_variables.iter().copied())
}

/// Selects the dialect: by flag, by variable, or by variables that only one dialect has.
///
/// # Errors
/// [`ErrorId::BadSetting`] for a name that is not a dialect.
pub fn select(flags: &Flags, environment: &Environment) -> Result<&'static Descriptor> {
    let variable = table::DIALECT.variables[0];
    let (name, source) = match (given(flags.dialect.as_deref()), environment.env(variable)) {
        (Some(name), _) => (name.to_owned(), "--dialect"),
        (None, Some(name)) => (name.to_string_lossy().trim().to_owned(), variable),
        (None, None) => {
            let meant = DIALECTS
                .iter()
                .find(|dialect| (dialect.is_meant)(environment));
            return Ok(meant.copied().unwrap_or(default()));
        }
    };
    let named = DIALECTS
        .iter()
        .find(|dialect| dialect.name.eq_ignore_ascii_case(&name));
    named.copied().ok_or_else(|| {
        let known: Vec<&str> = DIALECTS.iter().map(|dialect| dialect.name).collect();
        Error::new(ErrorId::BadSetting, format!("{name:?} is not a dialect"))
            .about(source)
            .hint(format!("give one of: {}", known.join(", ")))
    })
}

/// Reads the settings and the host's state in the selected dialect.
///
/// # Errors
/// As [`select`] and [`Descriptor::open`].
pub fn open<'a>(flags: &'a Flags, environment: &'a Environment) -> Result<Box<dyn Dialect + 'a>> {
    select(flags, environment)?.open(flags, environment)
}

/// Reads the settings for a command that reports only the facts. Skips the files that need other rights.
///
/// # Errors
/// As [`select`], wrong settings, and flags that the dialect ignores.
pub fn open_for_facts<'a>(
    flags: &'a Flags,
    environment: &'a Environment,
) -> Result<Box<dyn Dialect + 'a>> {
    let dialect = select(flags, environment)?;
    dialect.refuse_ignored(flags, environment)?;
    (dialect.read_for_facts)(flags, environment)
}

/// Enrols this host. `held` is the lock, if the caller holds it already.
///
/// # Errors
/// Those of an enrolment; see `docs/errors.md`.
pub async fn enrol(
    held: Option<&Lock>,
    flags: &Flags,
    force: bool,
    environment: &Environment,
) -> Result<Enrolment> {
    enrolment::enrol_by(&|| open(flags, environment), force, held, environment).await
}

/// Refuses the command or flag `what`, unless the dialect is monsys.
///
/// # Errors
/// [`ErrorId::BadArguments`].
pub fn monsys_only(what: &str, flags: &Flags, environment: &Environment) -> Result<()> {
    let dialect = select(flags, environment)?;
    if dialect.name == dialect_monsys::DESCRIPTOR.name {
        return Ok(());
    }
    Err(Error::new(
        ErrorId::BadArguments,
        format!(
            "only hosts of a monsys hub support it, and the selected dialect is {}",
            dialect.name
        ),
    )
    .about(what)
    .hint("do not use it; or add --dialect monsys, if this is about the agent of a monsys hub"))
}
