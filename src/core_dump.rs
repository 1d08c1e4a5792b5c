//! Keeps secrets in memory out of core dumps.
//!
//! A process that is aborted, by a panic for instance, may leave its memory on the disk, and with it
//! the token that it held. The kernel dumps no process that is not dumpable, whether `core_pattern`
//! names a file or a program (core(5), `PR_SET_DUMPABLE` in prctl(2)); the resource limit is inherited
//! by children, while `exec` makes a process dumpable again. So a token command, which holds the secret
//! too, leaves no core file either.

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Makes this process one that leaves no core dump, and that no other process of its user can read.
///
/// Neither call can fail for want of a right. Where a filter of system calls denies one of them, the
/// other one still holds, and there is nothing that an operator could do about it at this point.
pub fn prevent() {
    if getrlimit(Resource::RLIMIT_CORE) != Ok((0, 0)) {
        let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    }
    let _ = prctl::set_dumpable(false);
}
