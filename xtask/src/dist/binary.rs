//! The static binary of one architecture: its build, and its checks.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::arch::Arch;
use super::folder::read;
use super::sysroot::{Sysroot, target};
use xtask::error::{Context, Result, Stop};
use xtask::{process, tools};

const PROFILE: &str = "dist";
/// A panic aborts, and there are no symbols to show a backtrace with: a tenth of the binary for
/// nothing.
const NO_UNWIND_TABLES: &str = "-Cforce-unwind-tables=no";
/// A position-independent program relocates itself: packed, the list of its places is 150 KB less.
const PACKED_RELOCATIONS: &str = "-Clink-arg=-Wl,-z,pack-relative-relocs";

/// Equal parts of many functions become one function: 110 KB less.
const OUTLINED: &str = "-Cllvm-args=-enable-machine-outliner=always";
/// `{:?}` prints the name of a type or variant alone: the agent shows no more of one to anybody.
const SHORT_DEBUG: &str = "-Zfmt-debug=shallow";
/// The program that rustc calls to link: not musl-gcc, with which the binary is not static.
const LINKER: &str = "link-static-pie.sh";

/// The name of the section with the names of the compilers, in the table of the sections' names.
const COMMENT: &[u8] = b"\0.comment\0";

/// Builds the agent for all of these at once, which is nothing to do when nothing has changed.
pub(super) async fn build(all: &[Arch]) -> Result<()> {
    let (mut own, mut other) = (Vec::new(), Vec::new());
    for arch in all {
        let has_target = has_target(*arch).await?;
        if has_target { &mut own } else { &mut other }.push(*arch);
    }
    if !own.is_empty() {
        build_with(None, &own).await?;
    }
    if !other.is_empty() {
        build_with(Some(Sysroot::new()), &other).await?;
    }
    for arch in all {
        without_comment(*arch).await?;
        is_static_pie(&built(*arch)).await?;
    }
    Ok(())
}

/// Removes the section with the names of the compilers, which nothing reads and `strip` keeps.
///
/// The file stays the same one: cargo puts back another one at each build, and tests run it meanwhile.
async fn without_comment(arch: Arch) -> Result<()> {
    let built = built(arch);
    let has_comment = |bytes: &[u8]| bytes.windows(COMMENT.len()).any(|part| part == COMMENT);
    if !has_comment(&read(&built)?) {
        return Ok(());
    }
    let copy = built.with_extension("stripped");
    let mut objcopy = Command::new(compilers(arch).await?.objcopy);
    objcopy
        .arg("--remove-section=.comment")
        .arg(&built)
        .arg(&copy);
    process::run(&mut objcopy).await?;
    let bytes = read(&copy)?;
    if has_comment(&bytes) {
        return Err(Stop::failed("objcopy has not removed .comment"));
    }
    let what = || format!("could not write {}", built.display());
    std::fs::write(&built, bytes).context(what)?;
    std::fs::remove_file(&copy).context(what)
}

/// Builds it with the toolchain's own compiler, or with one of a sysroot.
async fn build_with(sysroot: Option<Sysroot>, all: &[Arch]) -> Result<()> {
    let mut cargo = tools::cargo(&["build", "--locked", "--quiet", "--package", "monsys-agent"]);
    cargo
        .args(["--profile", PROFILE, "--target-dir"])
        .arg(target())
        .env("PATH", path_of_linkers()?)
        .env("RUST_LLD", toolchain_lld().await?)
        // No time is in the binary; ring would be built again whenever this changes.
        .env_remove("SOURCE_DATE_EPOCH");
    for arch in all {
        let compilers = compilers(*arch).await?;
        if let Some(sysroot) = &sysroot {
            sysroot.ready(*arch, compilers.gcc).await?;
        }
        cargo.args(["--target", arch.target()]);
        compilers.set(*arch, &mut cargo);
    }
    let mut hidden = vec![
        (tools::root().to_owned(), "/monsys-agent"),
        (cargo_home()?.join("registry/src"), "/cargo"),
    ];
    let mut flags = [NO_UNWIND_TABLES, PACKED_RELOCATIONS, OUTLINED]
        .map(str::to_owned)
        .to_vec();
    let sources = match &sysroot {
        Some(sysroot) => Some(sysroot.sources()),
        None => Some(toolchain().await?.join("lib/rustlib/src/rust")).filter(|path| path.exists()),
    };
    match sources {
        Some(sources) => {
            // Without its own features, it has no backtraces, which would show nothing.
            cargo
                .args(["-Zbuild-std=std,panic_abort", "-Zbuild-std-features="])
                .env("RUSTC_BOOTSTRAP", "1");
            flags.push(SHORT_DEBUG.to_owned());
            // Cargo names what is below the workspace by its path there.
            hidden.push((PathBuf::from(tools::shown(&sources)), "/rustc"));
            hidden.push((sources, "/rustc"));
        }
        None => eprintln!(
            "the binary will be larger than it has to be: the toolchain has not got the sources of the standard \
             library (rustup component add rust-src)"
        ),
    }
    if let Some(sysroot) = &sysroot {
        cargo
            .env("RUSTC", sysroot.rustc())
            .env("LD_LIBRARY_PATH", sysroot.libraries());
        hidden.push((sysroot.path().to_owned(), "/rustc"));
    }
    for (path, name) in &hidden {
        flags.push(format!("--remap-path-prefix={}={name}", path.display()));
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    let targets: Vec<_> = all.iter().map(|arch| arch.target()).collect();
    eprintln!("building the agent for {}", targets.join(" and "));
    process::run(&mut cargo).await?;
    for arch in all {
        let paths = hidden.iter().map(|(path, _)| path.as_path());
        names_none_of(&read(&built(*arch))?, paths.chain([target().as_path()]))?;
    }
    Ok(())
}

/// The path where cargo puts the agent.
pub(super) fn built(arch: Arch) -> PathBuf {
    let folder = target().join(arch.target()).join(PROFILE);
    folder.join("monsys-agent")
}

/// Returns whether the toolchain can build for it by itself.
async fn has_target(arch: Arch) -> Result<bool> {
    let mut rustc = Command::new("rustc");
    rustc
        .args(["--print=target-libdir", "--target", arch.target()])
        .current_dir(tools::root());
    let folder = process::capture(&mut rustc).await?.stdout;
    Ok(Path::new(folder.trim()).is_dir())
}

/// Compiler of C for musl, which ring needs; the gcc that links, with its objcopy; and what rustc calls to link, which
/// is not musl-gcc: with that the binary is not static.
struct Compilers {
    cc: &'static str,
    gcc: &'static str,
    objcopy: &'static str,
}

impl Compilers {
    /// Sets what the environment does not set already.
    fn set(&self, arch: Arch, cargo: &mut Command) {
        let target = arch.target().replace('-', "_");
        let linker = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase());
        for (name, value) in [
            (format!("CC_{target}"), self.cc),
            // Some distributions' gcc adds calls that musl has not got.
            (format!("CFLAGS_{target}"), "-U_FORTIFY_SOURCE"),
            (linker, LINKER),
        ] {
            if std::env::var_os(&name).is_none() {
                cargo.env(name, value);
            }
        }
    }
}

async fn compilers(arch: Arch) -> Result<Compilers> {
    let (compilers, packages): (_, &[&str]) = match arch {
        Arch::X86_64 => (
            Compilers {
                cc: "musl-gcc",
                gcc: "gcc",
                objcopy: "objcopy",
            },
            &["gcc", "musl-tools"],
        ),
        Arch::Aarch64 => (
            Compilers {
                cc: "aarch64-linux-gnu-gcc",
                gcc: "aarch64-linux-gnu-gcc",
                objcopy: "aarch64-linux-gnu-objcopy",
            },
            &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
        ),
    };
    for program in [compilers.cc, compilers.gcc] {
        let mut version = Command::new(program);
        let runs = process::capture(version.arg("--version")).await;
        if !runs.is_ok_and(|runs| runs.status.success()) {
            tools::apt(packages).await?;
        }
    }
    Ok(compilers)
}

/// The folder of our own linker, and then the PATH: by its path, it would be another linker in each
/// clone.
fn path_of_linkers() -> Result<OsString> {
    let ours = tools::root().join("xtask/src/dist");
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::iter::once(ours).chain(std::env::split_paths(&path)))
        .context(|| "PATH".to_owned())
}

/// The folder of the toolchain's own lld: for aarch64, GNU ld packs no relocations before 2.43.
async fn toolchain_lld() -> Result<PathBuf> {
    let host = ask_toolchain("host-tuple").await?;
    let folder = toolchain()
        .await?
        .join("lib/rustlib")
        .join(host)
        .join("bin/gcc-ld");
    if folder.join("ld.lld").exists() {
        return Ok(folder);
    }
    Err(Stop::missing(format!("no ld.lld in {}", folder.display())))
}

/// The folder of the toolchain.
async fn toolchain() -> Result<PathBuf> {
    ask_toolchain("sysroot").await.map(PathBuf::from)
}

async fn ask_toolchain(what: &str) -> Result<String> {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", what]).current_dir(tools::root());
    Ok(process::stdout_of(&mut rustc).await?.trim().to_owned())
}

fn cargo_home() -> Result<PathBuf> {
    let below_home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo"));
    std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(below_home)
        .ok_or_else(|| Stop::failed("neither CARGO_HOME nor HOME is set"))
}

/// A static PIE asks nothing of its host; anything else asks for a dynamic loader, or sits where
/// everybody knows.
async fn is_static_pie(binary: &Path) -> Result<()> {
    if !Path::new("/usr/bin/file").exists() {
        tools::apt(&["file"]).await?;
    }
    let mut file = Command::new("file");
    let output = process::capture(file.arg("--brief").arg(binary)).await?;
    let says = output.stdout.trim();
    if says.contains("static-pie linked") && says.contains("stripped") {
        return Ok(());
    }
    Err(Stop::failed(format!(
        "{} has to be static-pie linked and stripped; file says: {says}",
        tools::shown(binary)
    )))
}

/// A path of the machine that built it would make another binary on each machine.
fn names_none_of<'a>(binary: &[u8], paths: impl Iterator<Item = &'a Path>) -> Result<()> {
    for path in paths {
        let path = path.as_os_str().as_encoded_bytes();
        if let Some(at) = binary.windows(path.len()).position(|bytes| bytes == path) {
            let end = (at + 120).min(binary.len());
            return Err(Stop::failed(format!(
                "the binary names a path of this machine: {:?}",
                String::from_utf8_lossy(&binary[at..end])
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_the_machine_is_found() {
        let names = |path: &str| {
            names_none_of(
                b"\0src/a.rs\0/home/x/.cargo/b",
                [Path::new(path)].into_iter(),
            )
        };
        assert!(names("/home/x").is_err());
        assert!(names("/home/y").is_ok());
    }
}
