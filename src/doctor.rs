//! `doctor`: checks all that an enrolment needs, and spends no use.
//!
//! Each check is one [`Check`]; a failed one has a hint. What a failed check makes pointless
//! is skipped, so that one cause is told once.

mod host;
mod leftovers;
pub(crate) mod metadata;
mod network;

use crate::dialect;
use crate::error::{Error, ErrorId, Result};
use crate::hub::retry::Limit;
use crate::settings::Flags;
use crate::store::atomic;
use crate::world::World;

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// As it should be.
    Good,
    /// An enrolment can go on, but somebody should know.
    Warning,
    /// An enrolment would fail.
    Bad,
    /// Not looked at, because of another finding.
    Skipped,
}

impl Finding {
    /// Stable word, as in `--output json`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Bad => "bad",
            Self::Skipped => "skipped",
        }
    }
}

/// One check.
#[derive(Debug)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// What was found.
    pub finding: Finding,
    /// The finding in words.
    pub says: String,
    /// How to fix it.
    pub hint: Option<String>,
    /// Exit code that an enrolment would end with.
    pub exit_code: u8,
}

impl Check {
    fn new(name: &'static str, finding: Finding, says: impl Into<String>) -> Self {
        Self {
            name,
            finding,
            says: says.into(),
            hint: None,
            exit_code: 0,
        }
    }

    pub(crate) fn good(name: &'static str, says: impl Into<String>) -> Self {
        Self::new(name, Finding::Good, says)
    }

    pub(crate) fn skipped(name: &'static str, because: &str) -> Self {
        Self::new(name, Finding::Skipped, because)
    }

    pub(crate) fn warning(
        name: &'static str,
        says: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            hint: Some(hint.into()),
            ..Self::new(name, Finding::Warning, says)
        }
    }

    pub(crate) fn bad(name: &'static str, error: &Error) -> Self {
        Self {
            hint: Some(error.next_step().into()),
            exit_code: error.exit_code(),
            ..Self::new(
                name,
                Finding::Bad,
                format!("{}: {}", error.what(), error.cause()),
            )
        }
    }
}

/// Looks at everything.
///
/// # Errors
/// None: what fails is a finding.
pub async fn examine(flags: &Flags, world: &World) -> Vec<Check> {
    let host = match dialect::open(flags, world) {
        Ok(host) => host,
        Err(error) => {
            return vec![
                Check::bad("settings", &error),
                Check::skipped("everything else", "it needs the settings"),
            ];
        }
    };
    let settings = host.settings();
    let mut checks = host.checks();
    let limit = Limit::of(settings.wait);
    let (check, token) = host::token(&*host, world, limit).await;
    checks.push(check);
    checks.push(host::plan(&*host, token.as_ref(), world));
    checks.extend(host::folders(&*host));
    checks.extend(network::examine(settings, world).await);
    checks.push(host::service_manager(world));
    checks.push(leftovers::examine(world));
    checks.push(metadata::examine(settings, world).await);
    checks
}

/// Proves that `folder`, or the parent that it would be made in, takes a durable write.
fn prove(folder: &std::path::Path, id: ErrorId) -> Result<String> {
    let mut existing = folder;
    while !existing.exists() {
        match existing.parent() {
            Some(parent) => existing = parent,
            None => break,
        }
    }
    atomic::Owner::of(existing)
        .and_then(|owner| atomic::prove(existing, 4096, owner))
        .map_err(|error| crate::store::unwritable(id, existing, &error))?;
    Ok(if existing == folder {
        format!("{} takes a durable write", folder.display())
    } else {
        format!(
            "{} will be made; {} takes a durable write",
            folder.display(),
            existing.display()
        )
    })
}
