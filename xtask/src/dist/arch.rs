//! The architectures of the binaries, and their names in each ecosystem.

use clap::ValueEnum;

use super::apt::Pinned;
use xtask::error::{Result, Stop};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arch {
    #[value(name = "x86_64")]
    X86_64,
    #[value(name = "aarch64")]
    Aarch64,
}

impl Arch {
    pub(crate) const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// Returns the architecture of this machine.
    pub(crate) fn ours() -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|arch| arch.kernel() == std::env::consts::ARCH)
            .ok_or_else(|| Stop::missing("there is no release for this processor"))
    }

    /// As `uname -m` and rpm say it.
    pub(crate) fn kernel(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// As Debian says it.
    pub(crate) fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// The C library that a sysroot links with, and its SHA-256: Debian trixie's. musl queries name servers
    /// by TCP since 1.2.4, and packs its own relocations since then.
    pub(super) fn musl(self) -> Pinned {
        let sha256 = match self {
            Self::X86_64 => "a3f7d47e452129bb65aae201d6c115abf4d5d3efb136b38b7c6b4fa03ec065e9",
            Self::Aarch64 => "384ea029e3694baac696d3993d93246f9a4b3741c493697e1ceb7256d8820748",
        };
        Pinned {
            package: format!("musl-dev:{}=1.2.5-3.1~deb13u1", self.debian()),
            sha256,
        }
    }

    /// As rustc says it.
    pub(crate) fn target(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-musl",
            Self::Aarch64 => "aarch64-unknown-linux-musl",
        }
    }
}
