//! The kernel limits that the process needs. If they were too low, a library would panic in the middle of a
//! run.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use agent_core::error::{Error, ErrorId, Result};

/// The number of open files that any command needs at most: the runtime's own, a connection, and the files
/// that are written together.
const OPEN_FILES: u64 = 32;

/// Raises the soft limit of open files (`RLIMIT_NOFILE`, getrlimit(2)) to the number that a command needs.
///
/// # Errors
/// [`ErrorId::Internal`] if the hard limit is lower.
pub fn raise() -> Result<()> {
    // If the limit cannot be read, a file that cannot be opened reports its own error.
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return Ok(());
    };
    if soft >= OPEN_FILES {
        return Ok(());
    }
    let is_raised =
        hard >= OPEN_FILES && setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES, hard).is_ok();
    if is_raised {
        return Ok(());
    }
    Err(Error::new(
        ErrorId::Internal,
        format!("at most {soft} files may be open (RLIMIT_NOFILE), and {OPEN_FILES} are needed"),
    )
    .about("the limit of open files")
    .hint(format!(
        "raise it: ulimit -n {OPEN_FILES}, or LimitNOFILE= of the unit that runs this"
    )))
}
