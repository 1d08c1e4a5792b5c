//! A compiler for musl where the toolchain has no such target: Debian's rustc, the sources of its
//! standard library, and Debian's libunwind, with the musl of a newer Debian, unpacked below `target/`.
//!
//! The standard library is then built along with the agent. That is for machines whose toolchain
//! cannot be added to; a release takes the toolchain's own target.

use std::fs;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::apt::Apt;
use super::arch::Arch;
use xtask::error::{Context, Result, Stop};
use xtask::{process, tools};

/// Change it when what is unpacked below changes.
const RECIPE: &str = "1";
/// The release of Debian that has the musl of [`Arch::musl`].
const MUSL_RELEASE: &str = "trixie";

pub(super) struct Sysroot {
    root: PathBuf,
}

impl Sysroot {
    pub(super) fn new() -> Self {
        Self {
            root: target().join("rustc"),
        }
    }

    /// Makes the compiler ready for `arch`; `gcc` is the one that links for it.
    pub(super) async fn ready(&self, arch: Arch, gcc: &str) -> Result<()> {
        let folder = target();
        let musl = folder.join(format!("musl-{}", arch.kernel()));
        self.unpack(&folder, arch, &musl)
            .await
            .map_err(|cause| match cause {
                Stop::Missing(cause) => Stop::missing(format!(
                    "no static {arch:?} binary: the toolchain has not got the target \
                     (rustup target add {}), and a compiler from Debian is not available: {cause}",
                    arch.target()
                )),
                other => other,
            })?;
        self.run_compiler().await?;
        self.link_with(arch, &musl, gcc).await
    }

    /// Its rustc.
    pub(super) fn rustc(&self) -> PathBuf {
        self.root.join("usr/bin/rustc")
    }

    /// The folder of the libraries of its rustc.
    pub(super) fn libraries(&self) -> PathBuf {
        self.root.join("usr/lib/x86_64-linux-gnu")
    }

    /// Its folder, which must not be named in the binary.
    pub(super) fn path(&self) -> &Path {
        &self.root
    }

    /// The folder of the sources of its standard library.
    pub(super) fn sources(&self) -> PathBuf {
        self.root.join("usr/lib/rustlib/src/rust")
    }

    async fn unpack(&self, folder: &Path, arch: Arch, musl: &Path) -> Result<()> {
        // The lists are fetched once for all that is missing.
        let mut lists = None;
        tools::once(&self.root, RECIPE, async || {
            let apt = Apt::new(folder.join("apt")).await?;
            println!("unpacking Debian's rustc into {}", tools::shown(&self.root));
            let mut packages = vec![
                "rustc-web".to_owned(),
                "libstd-rust-web-dev".to_owned(),
                "rust-web-src".to_owned(),
            ];
            let needed = apt.depends("libstd-rust-web-dev").await?;
            packages.extend(needed.into_iter().filter(|n| n.starts_with("libstd-rust")));
            let packages: Vec<_> = packages.iter().map(String::as_str).collect();
            apt.unpack(&packages, &self.root).await?;
            lists = Some(apt);
            Ok(())
        })
        .await?;
        let pinned = arch.musl();
        let recipe = format!("{RECIPE} {} {}", pinned.package, pinned.sha256);
        tools::once(musl, &recipe, async || {
            let apt = match lists {
                Some(apt) => apt,
                None => Apt::new(folder.join("apt")).await?,
            };
            println!("unpacking Debian's musl into {}", tools::shown(musl));
            Apt::of(MUSL_RELEASE, folder.join("apt-musl"))
                .await?
                .unpack_pinned(&pinned, musl)
                .await?;
            // The oldest: newer ones are built with checks that only glibc has the functions for.
            let names = apt.names("libunwind-").await?;
            let unwind = names
                .iter()
                .filter_map(|name| Some((version(name)?, name)))
                .min()
                .ok_or_else(|| Stop::missing("no package libunwind-NN-dev"))?;
            let of = |name: &str| format!("{name}:{}", arch.debian());
            apt.unpack(&[&of(unwind.1)], musl).await
        })
        .await
    }

    /// Debian's rustc needs the LLVM that Debian built it with.
    async fn run_compiler(&self) -> Result<()> {
        let version = || {
            let mut rustc = Command::new(self.rustc());
            rustc
                .arg("--version")
                .env("LD_LIBRARY_PATH", self.libraries());
            rustc
        };
        let first = process::capture(&mut version()).await?;
        if first.status.success() {
            return Ok(());
        }
        // "libLLVM.so.22.1: cannot open shared object file"
        let llvm = first
            .stderr
            .split_once("libLLVM.so.")
            .and_then(|(_, rest)| rest.split('.').next())
            .ok_or_else(|| Stop::missing(format!("Debian's rustc: {}", first.stderr)))?;
        tools::apt(&[&format!("libllvm{llvm}")]).await?;
        tools::install(&mut version()).await
    }

    /// Puts the objects and libraries of musl where rustc looks for its own.
    async fn link_with(&self, arch: Arch, musl: &Path, gcc: &str) -> Result<()> {
        let target = self.root.join("usr/lib/rustlib").join(arch.target());
        let contained = target.join("lib/self-contained");
        fs::create_dir_all(&contained)
            .context(|| format!("could not make {}", contained.display()))?;
        let libraries = musl.join(format!("usr/lib/{}-linux-musl", arch.kernel()));
        for file in ["crt1.o", "Scrt1.o", "rcrt1.o", "crti.o", "crtn.o", "libc.a"] {
            copy(&libraries.join(file), &contained)?;
        }
        for file in ["crtbegin.o", "crtbeginS.o", "crtend.o", "crtendS.o"] {
            let mut which = Command::new(gcc);
            which.arg(format!("-print-file-name={file}"));
            let path = process::capture(&mut which).await?.stdout;
            copy(Path::new(path.trim()), &contained)?;
        }
        copy(&unwind(&musl.join("usr/lib"))?, &contained)
    }
}

/// The number in `libunwind-14-dev`.
fn version(package: &str) -> Option<u32> {
    let number = package.strip_prefix("libunwind-")?.strip_suffix("-dev")?;
    number.parse().ok()
}

/// `llvm-14/lib/libunwind.a`, or wherever this release of Debian has it.
fn unwind(libraries: &Path) -> Result<PathBuf> {
    let what = || format!("could not read {}", libraries.display());
    for entry in fs::read_dir(libraries).context(what)? {
        let folder = entry.context(what)?.path();
        for place in ["lib/libunwind.a", "libunwind.a"] {
            if folder.join(place).exists() {
                return Ok(folder.join(place));
            }
        }
    }
    Err(Stop::missing(format!(
        "no libunwind.a below {}",
        libraries.display()
    )))
}

fn copy(file: &Path, folder: &Path) -> Result<()> {
    let name = file.file_name().unwrap_or_default();
    super::folder::write(&folder.join(name), &super::folder::read(file)?, 0o644)
}

/// Cargo's target folder: it is not shared with builds by another compiler.
pub(super) fn target() -> PathBuf {
    tools::target().join("static")
}
