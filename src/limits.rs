//! What the process needs of the kernel before it can begin: without it, a library would panic halfway.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use agent_core::error::{Error, ErrorId, Result};

/// Open files that every command gets along with: the runtime's own, a connection, and the files that
/// are written together.
const OPEN_FILES: u64 = 32;

/// Raises the limit of open files (`RLIMIT_NOFILE`, getrlimit(2)) to what a command needs, as far as the
/// hard limit lets it.
///
/// # Errors
/// [`ErrorId::Internal`] when that is not far enough.
pub fn raise() -> Result<()> {
    // Where it cannot be read, what needs it will say so.
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
