//! What is in the deb and the rpm, and what lintian and rpmlint say of them. How they behave on a
//! host is for booted hosts to show.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::Count;
use super::dist::{read, require};
use crate::dist::arch::Arch;
use crate::dist::{self, Options, sha256};
use crate::error::{Context, Result};
use crate::{process, tools};

/// What the tests run, and Debian's package of it.
const PROGRAMS: [(&str, &str); 5] = [
    ("/usr/bin/lintian", "lintian"),
    ("/usr/bin/rpm", "rpm"),
    ("/usr/bin/rpm2archive", "rpm2cpio"),
    ("/usr/bin/rpmlint", "rpmlint"),
    ("/usr/bin/xz", "xz-utils"),
];

/// In both packages; `*` stands for where a distribution has its own place.
const FILES: [(&str, &str); 8] = [
    ("-rwxr-xr-x", "/usr/bin/monsys-agent"),
    ("-rw-r--r--", "/usr/lib/systemd/system/monsys-agent.service"),
    ("-rw-r--r--", "/usr/lib/sysusers.d/monsys-agent.conf"),
    ("-rw-r--r--", "/usr/lib/tmpfiles.d/monsys-agent.conf"),
    ("-rw-r--r--", "/usr/share/man/man1/monsys-agent.1.gz"),
    ("-rw-r--r--", "/usr/share/man/man1/monsys-agent-enrol.1.gz"),
    (
        "-rw-r--r--",
        "/usr/share/bash-completion/completions/monsys-agent",
    ),
    (
        "-rw-r--r--",
        "/usr/share/fish/vendor_completions.d/monsys-agent.fish",
    ),
];

pub(crate) async fn run() -> Result<Count> {
    let missing: Vec<_> = PROGRAMS
        .iter()
        .filter(|(program, _)| !Path::new(program).exists())
        .map(|(_, package)| *package)
        .collect();
    if !missing.is_empty() {
        tools::apt(&missing).await?;
    }
    let folder = dist::run(&Options::default()).await?;
    let older = dist::run(&Options {
        package_version: Some("0.0.9".to_owned()),
        ..Options::default()
    })
    .await?;
    let mut count = Count::default();
    for arch in Arch::ALL {
        let binary = folder.join(super::dist::named(&format!("-linux-{}", arch.kernel())));
        for (folder, version) in [(&folder, agent_core::VERSION), (&older, "0.0.9")] {
            let deb = Deb(folder.join(format!("monsys-agent_{version}-1_{}.deb", arch.debian())));
            let rpm = Rpm(folder.join(format!("monsys-agent-{version}-1.{}.rpm", arch.kernel())));
            let what = |format: &str| format!("{format} {version} for {}", arch.kernel());
            count.check(&what("deb"), deb.check(arch, version, &binary).await);
            count.check(&what("rpm"), rpm.check(arch, version, &binary).await);
        }
    }
    count.check("lintian", lintian(&folder).await);
    count.check("rpmlint", rpmlint(&folder).await);
    Ok(count)
}

struct Deb(PathBuf);

impl Deb {
    async fn check(&self, arch: Arch, version: &str, binary: &Path) -> Result<()> {
        let fields = said("dpkg-deb", &["--field"], &self.0).await?;
        for field in [
            "Package: monsys-agent".to_owned(),
            format!("Version: {version}-1"),
            format!("Architecture: {}", arch.debian()),
            // No library: only what makes the user.
            "Depends: systemd | passwd".to_owned(),
        ] {
            let has = fields.lines().any(|line| line == field);
            require(has, || format!("no field {field} in\n{fields}"))?;
        }
        let list = said("dpkg-deb", &["--contents"], &self.0).await?;
        let list = list.replace(" ./", " /");
        lists(&list, |line| line.contains(" 0/0 "))?;
        lists_file(
            &list,
            "-rw-r--r--",
            "/usr/share/zsh/vendor-completions/_monsys-agent",
        )?;
        let doc = "/usr/share/doc/monsys-agent";
        for file in [
            "copyright",
            "changelog.Debian.gz",
            "THIRD-PARTY-LICENSES.gz",
        ] {
            lists_file(&list, "-rw-r--r--", &format!("{doc}/{file}"))?;
        }
        let scratch = scratch()?;
        let control = scratch.path().join("control");
        let mut extract = Command::new("dpkg-deb");
        extract
            .arg("--raw-extract")
            .arg(&self.0)
            .arg(scratch.path().join("tree"));
        process::run(&mut extract).await?;
        let mut extract = Command::new("dpkg-deb");
        process::run(extract.arg("--control").arg(&self.0).arg(&control)).await?;
        // No conffiles: no question about agent.toml, ever.
        let names = names(&control)?;
        require(names == ["control", "postinst", "postrm", "prerm"], || {
            format!("{names:?}")
        })?;
        enrols_nothing(&read(&control.join("postinst"))?)?;
        same(&scratch.path().join("tree/usr/bin/monsys-agent"), binary)
    }
}

struct Rpm(PathBuf);

impl Rpm {
    async fn check(&self, arch: Arch, version: &str, binary: &Path) -> Result<()> {
        let format = "%{NAME} %{VERSION}-%{RELEASE} %{ARCH} %{LICENSE}";
        let told = said(
            "rpm",
            &["--query", "--queryformat", format, "--package"],
            &self.0,
        )
        .await?;
        let wanted = format!(
            "monsys-agent {version}-1 {} MIT OR Apache-2.0",
            arch.kernel()
        );
        require(told == wanted, || told)?;
        let query = async |what: &str| said("rpm", &["--query", "--package", what], &self.0).await;
        let needs = query("--requires").await?;
        let needs: BTreeSet<_> = needs
            .lines()
            .filter(|need| !need.starts_with("rpmlib("))
            .collect();
        require(needs == BTreeSet::from(["/bin/sh", "systemd"]), || {
            format!("{needs:?}")
        })?;
        let configuration = query("--configfiles").await?;
        require(configuration.is_empty(), || configuration)?;
        let list = said(
            "rpm",
            &["--query", "--list", "--verbose", "--package"],
            &self.0,
        )
        .await?;
        lists(&list, |line| line.contains(" root     root "))?;
        lists_file(
            &list,
            "-rw-r--r--",
            "/usr/share/zsh/site-functions/_monsys-agent",
        )?;
        lists_file(
            &list,
            "-rw-r--r--",
            "/usr/share/licenses/monsys-agent/LICENSE-MIT",
        )?;
        enrols_nothing(&query("--scripts").await?)?;
        let digests = said("rpm", &["--checksig", "--nosignature"], &self.0).await?;
        require(digests.trim_end().ends_with("digests OK"), || digests)?;
        let scratch = scratch()?;
        let copy = scratch.path().join("package.rpm");
        fs::copy(&self.0, &copy).context(|| "no copy".to_owned())?;
        let mut convert = Command::new("rpm2archive");
        process::run(convert.arg("--nocompression").arg(&copy)).await?;
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--file", "package.rpm.tar"]);
        process::run(tar.current_dir(scratch.path())).await?;
        same(&scratch.path().join("usr/bin/monsys-agent"), binary)
    }
}

/// Every line is as it should be, nothing is in /etc, and all of [`FILES`] are there.
fn lists(list: &str, is_owned: impl Fn(&str) -> bool) -> Result<()> {
    let foreign = list.lines().find(|line| !is_owned(line));
    require(foreign.is_none(), || format!("not root's: {foreign:?}"))?;
    require(!list.contains(" /etc"), || {
        format!("it brings /etc:\n{list}")
    })?;
    FILES
        .iter()
        .try_for_each(|(mode, file)| lists_file(list, mode, file))
}

fn lists_file(list: &str, mode: &str, file: &str) -> Result<()> {
    let path = format!(" {file}");
    let has = list
        .lines()
        .any(|line| line.starts_with(mode) && line.ends_with(&path));
    require(has, || format!("no {mode} {file} in\n{list}"))
}

/// A script may say how to enrol; it must not do it.
fn enrols_nothing(script: &str) -> Result<()> {
    let runs = |line: &&str| {
        line.contains("monsys-agent enrol") && !line.contains("MONSYS_TOKEN=enrl_...")
    };
    let found = script.lines().find(runs);
    require(found.is_none(), || format!("it enrols: {found:?}"))
}

fn same(packed: &Path, binary: &Path) -> Result<()> {
    let sum = |path: &Path| fs::read(path).map(|bytes| sha256(&bytes));
    let what = || format!("could not compare {}", packed.display());
    let (packed, binary) = (sum(packed).context(what)?, sum(binary).context(what)?);
    require(packed == binary, || "it holds another binary".to_owned())
}

/// No error or warning but those of the overrides, each of which has its reason beside it.
async fn lintian(folder: &Path) -> Result<()> {
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--no-cfg", "--fail-on", "error,warning"]);
    for arch in Arch::ALL {
        let name = format!(
            "monsys-agent_{}-1_{}.deb",
            agent_core::VERSION,
            arch.debian()
        );
        lintian.arg(folder.join(name));
    }
    process::run(&mut lintian).await
}

async fn rpmlint(folder: &Path) -> Result<()> {
    let mut rpmlint = Command::new("rpmlint");
    rpmlint.args(["--strict", "--config", "packaging/rpm/rpmlint.toml"]);
    for arch in Arch::ALL {
        let name = format!(
            "monsys-agent-{}-1.{}.rpm",
            agent_core::VERSION,
            arch.kernel()
        );
        rpmlint.arg(folder.join(name));
    }
    process::run(rpmlint.current_dir(tools::root())).await
}

async fn said(program: &str, arguments: &[&str], file: &Path) -> Result<String> {
    let mut command = Command::new(program);
    let told = process::capture(command.args(arguments).arg(file)).await?;
    require(told.status.success(), || told.stderr)?;
    Ok(told.stdout)
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let what = || format!("could not read {}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).context(what)? {
        names.push(
            entry
                .context(what)?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    names.sort();
    Ok(names)
}

fn scratch() -> Result<tempfile::TempDir> {
    tempfile::tempdir().context(|| "no scratch folder".to_owned())
}
