//! The kernel limits that the process needs. If they were too low, a library would panic in the middle of a
//! run.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use agent_core::error::{Error, ErrorId, Result};

/// A limit (getrlimit(2)), and the least value that any command needs.
struct Need {
    resource: Resource,
    name: &'static str,
    about: &'static str,
    /// In the unit of the kernel: files, or bytes.
    least: u64,
    /// The setting of a shell and of a unit that raises the limit.
    remedy: &'static str,
}

/// The size of the program and of its data during an enrolment, twice over.
const MEMORY: u64 = 16 * 1024 * 1024;

/// Twice the size of the largest file that is written: the program, by `install`.
const FILE: u64 = 8 * 1024 * 1024;

const NEEDS: [Need; 4] = [
    // The runtime's own files, a connection, and the files that are written together.
    Need {
        resource: Resource::RLIMIT_NOFILE,
        name: "RLIMIT_NOFILE",
        about: "the limit of open files",
        least: 32,
        remedy: "ulimit -n 32, or LimitNOFILE=",
    },
    Need {
        resource: Resource::RLIMIT_AS,
        name: "RLIMIT_AS",
        about: "the limit of the address space",
        least: MEMORY,
        remedy: "ulimit -v unlimited, or LimitAS=",
    },
    Need {
        resource: Resource::RLIMIT_DATA,
        name: "RLIMIT_DATA",
        about: "the limit of the data segment",
        least: MEMORY,
        remedy: "ulimit -d unlimited, or LimitDATA=",
    },
    // The kernel would end the process by SIGXFSZ in the middle of a write.
    Need {
        resource: Resource::RLIMIT_FSIZE,
        name: "RLIMIT_FSIZE",
        about: "the limit of the size of a file",
        least: FILE,
        remedy: "ulimit -f unlimited, or LimitFSIZE=",
    },
];

/// Raises the soft limits to what a command needs.
///
/// # Errors
/// [`ErrorId::Internal`] if a hard limit is lower.
pub fn raise() -> Result<()> {
    NEEDS.iter().try_for_each(Need::ensure)
}

impl Need {
    fn ensure(&self) -> Result<()> {
        // If the limit cannot be read, whatever it forbids reports its own error.
        let Ok((soft, hard)) = getrlimit(self.resource) else {
            return Ok(());
        };
        if soft >= self.least {
            return Ok(());
        }
        let is_raised = hard >= self.least && setrlimit(self.resource, self.least, hard).is_ok();
        if is_raised {
            return Ok(());
        }
        let (name, least) = (self.name, self.least);
        Err(Error::new(
            ErrorId::Internal,
            format!("{name} is {soft}, and at least {least} is needed"),
        )
        .about(self.about)
        .hint(format!(
            "raise it: {} of the unit that runs this",
            self.remedy
        )))
    }
}
