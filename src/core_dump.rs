//! Protection of the secrets in memory from core dumps.
//!
//! A core dump of an aborted process would write its memory, and the token in it, to the disk. The kernel
//! never dumps a process that is not dumpable (core(5), `PR_SET_DUMPABLE` in prctl(2)). `exec` makes a
//! process dumpable again, but children inherit the resource limit. So a token command, which also has the
//! secret in memory, writes no core file either.

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Disables core dumps of this process, and access to its memory by other processes of its user.
///
/// Neither call needs a privilege. If a filter of system calls denies one of them, the other one still
/// protects the process, so an error is ignored.
pub fn prevent() {
    if getrlimit(Resource::RLIMIT_CORE) != Ok((0, 0)) {
        let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    }
    let _ = prctl::set_dumpable(false);
}
