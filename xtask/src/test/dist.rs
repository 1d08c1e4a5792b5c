//! A release as it is given away: whole, signed, made once; and a binary that needs nothing of its
//! host ([`bare`]).

mod bare;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tokio::process::Command;

use super::Count;
use crate::dist::arch::Arch;
use crate::dist::{self, Options, sha256};
use crate::error::{Context, Result, Stop};
use crate::{process, tools};

pub(crate) async fn run() -> Result<Count> {
    let keys = tempfile::tempdir().context(|| "no scratch folder".to_owned())?;
    let options = Options {
        key: Some(secret_key(keys.path())?),
        ..Options::default()
    };
    let folder = dist::run(&options).await?;
    let mut count = Count::default();
    count.check("a second run makes nothing", again(&options, &folder).await);
    count.check("SHA256SUMS is of every file", checksums(&folder).await);
    count.check("install.sh knows the binaries", installer(&folder));
    count.check("minisign verifies", signature(&folder).await);
    count.check(
        "the tarballs hold what they should",
        tarballs(&folder).await,
    );
    count.check("the SBOM keeps CycloneDX's schema", sbom(&folder).await);
    bare::run(&folder, &mut count).await?;
    Ok(count)
}

/// The name of the release's file that ends so.
pub(super) fn named(rest: &str) -> String {
    format!("monsys-agent-{}{rest}", agent_core::VERSION)
}

pub(super) fn require(holds: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if holds {
        Ok(())
    } else {
        Err(Stop::failed(otherwise()))
    }
}

fn secret_key(folder: &Path) -> Result<PathBuf> {
    let what = || "could not make a key".to_owned();
    let pair = minisign::KeyPair::generate_unencrypted_keypair().context(what)?;
    let path = folder.join("minisign.key");
    let text = pair.sk.to_box(None).context(what)?.into_string();
    fs::write(&path, text).context(what)?;
    Ok(path)
}

async fn again(options: &Options, folder: &Path) -> Result<()> {
    let times = || -> Result<BTreeMap<PathBuf, SystemTime>> {
        let what = || format!("could not read {}", folder.display());
        let mut times = BTreeMap::new();
        for entry in fs::read_dir(folder).context(what)? {
            let entry = entry.context(what)?;
            let modified = entry.metadata().and_then(|m| m.modified()).context(what)?;
            times.insert(entry.path(), modified);
        }
        Ok(times)
    };
    let before = times()?;
    dist::run(options).await?;
    let after = times()?;
    let changed: Vec<_> = after
        .iter()
        .filter(|(path, time)| before.get(*path) != Some(time))
        .collect();
    require(changed.is_empty() && before.len() == after.len(), || {
        format!("it made {changed:?} anew")
    })
}

async fn checksums(folder: &Path) -> Result<()> {
    let mut check = Command::new("sha256sum");
    check.args(["--check", "--strict", "--quiet", "SHA256SUMS"]);
    process::run(check.current_dir(folder)).await?;
    let sums = read(&folder.join("SHA256SUMS"))?;
    let mut listed: Vec<_> = sums.lines().filter_map(|l| l.split_once("  ")).collect();
    listed.sort_unstable();
    let own = ["SHA256SUMS", "SHA256SUMS.minisig", "install.sh"];
    let files = fs::read_dir(folder).context(|| "no folder".to_owned())?;
    for file in files.filter_map(std::result::Result::ok) {
        let name = file.file_name().to_string_lossy().into_owned();
        let is_listed = listed.iter().any(|(_, listed)| **listed == name);
        require(is_listed != own.contains(&name.as_str()), || {
            format!("{name} is listed: {is_listed}")
        })?;
    }
    // Two binaries, two tarballs, two debs, two rpms and the SBOM.
    require(listed.len() == 9, || sums)
}

fn installer(folder: &Path) -> Result<()> {
    let script = read(&folder.join("install.sh"))?;
    let mut lines = vec![
        format!("DEFAULT_VERSION='{}'", agent_core::VERSION),
        format!(
            "DEFAULT_DOWNLOAD_URL='https://get.monsys.ai/releases/v{}'",
            agent_core::VERSION
        ),
    ];
    for arch in Arch::ALL {
        let name = named(&format!("-linux-{}", arch.kernel()));
        let binary = fs::read(folder.join(&name)).context(|| name.clone())?;
        lines.push(format!("{}  {name}", sha256(&binary)));
    }
    for line in lines {
        let quoted = |part: &str| {
            part.trim_start_matches("CHECKSUMS='")
                .trim_end_matches('\'')
                == line
        };
        require(script.lines().any(|l| l == line || quoted(l)), || {
            format!("there is no line {line}")
        })?;
    }
    Ok(())
}

/// By the program that users have, not by the library that signed.
async fn signature(folder: &Path) -> Result<()> {
    let script = read(&folder.join("install.sh"))?;
    let key = |line: &str| {
        let key = line.strip_prefix("MINISIGN_KEY='")?.strip_suffix('\'')?;
        (!key.is_empty()).then(|| key.to_owned())
    };
    let key = script.lines().find_map(key);
    let key = key.ok_or_else(|| Stop::failed("install.sh has no public key"))?;
    if !Path::new("/usr/bin/minisign").exists() {
        tools::apt(&["minisign"]).await?;
    }
    let verify = async |sums: &Path| {
        let mut minisign = Command::new("minisign");
        let signature = folder.join("SHA256SUMS.minisig");
        minisign.args(["-V", "-P", &key, "-x"]).arg(signature);
        process::capture(minisign.arg("-m").arg(sums)).await
    };
    let verified = verify(&folder.join("SHA256SUMS")).await?;
    require(verified.status.success(), || verified.text())?;
    let other = tempfile::NamedTempFile::new().context(|| "no scratch file".to_owned())?;
    let text = read(&folder.join("SHA256SUMS"))?.replacen('0', "1", 1);
    fs::write(other.path(), text).context(|| "no scratch file".to_owned())?;
    let verified = verify(other.path()).await?;
    require(!verified.status.success(), || {
        "of other sums too".to_owned()
    })
}

async fn tarballs(folder: &Path) -> Result<()> {
    for arch in Arch::ALL {
        let name = named(&format!("-linux-{}", arch.kernel()));
        let tarball = folder.join(format!("{name}.tar.gz"));
        let mut tar = Command::new("tar");
        tar.args(["--list", "--verbose", "--numeric-owner", "--file"]);
        let listed = process::capture(tar.arg(&tarball)).await?;
        process::succeeded("tar", listed.status)?;
        for (mode, file) in [
            ("-rwxr-xr-x", "monsys-agent"),
            ("-rw-r--r--", "README.md"),
            ("-rw-r--r--", "LICENSE-MIT"),
            ("-rw-r--r--", "LICENSE-APACHE"),
            ("-rw-r--r--", "THIRD-PARTY-LICENSES"),
            ("-rw-r--r--", "man/monsys-agent.1"),
            ("-rw-r--r--", "man/monsys-agent-enroll.1"),
            ("-rw-r--r--", "completions/_monsys-agent"),
            ("-rw-r--r--", "completions/monsys-agent.bash"),
            ("-rw-r--r--", "systemd/monsys-agent.service"),
        ] {
            let path = format!(" {name}/{file}");
            let is_it = |line: &str| line.starts_with(mode) && line.ends_with(&path);
            require(listed.stdout.lines().any(is_it), || {
                format!("no {mode} {file} in\n{}", listed.stdout)
            })?;
        }
        let foreign = listed.stdout.lines().find(|line| !line.contains(" 0/0 "));
        require(foreign.is_none(), || format!("not root's: {foreign:?}"))?;
        let scratch = tempfile::tempdir().context(|| "no scratch folder".to_owned())?;
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--file"]).arg(&tarball);
        process::run(tar.current_dir(scratch.path())).await?;
        let inner = fs::read(scratch.path().join(&name).join("monsys-agent"));
        let bare = fs::read(folder.join(&name));
        require(
            inner.is_ok_and(|inner| bare.is_ok_and(|bare| inner == bare)),
            || "it holds another binary".to_owned(),
        )?;
    }
    Ok(())
}

async fn sbom(folder: &Path) -> Result<()> {
    let bin = tools::venv("sbom", "xtask/requirements/sbom.txt").await?;
    let file = folder.join(named(".cdx.json"));
    let mut python = Command::new(bin.join("python"));
    python.args(["-c", VALIDATE]).arg(&file);
    process::run(&mut python).await?;
    let text = read(&file)?;
    let sbom: serde_json::Value = serde_json::from_str(&text).context(|| "no JSON".to_owned())?;
    let parts = sbom["components"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let part = |name: &str| parts.iter().find(|part| part["name"] == name);
    for linked in ["ring", "rustls", "tokio"] {
        let part = part(linked).ok_or_else(|| Stop::failed(format!("{linked} is not in it")))?;
        let has = |key: &str| part[key].as_array().is_some_and(|list| !list.is_empty());
        require(has("hashes") && has("licenses"), || part.to_string())?;
    }
    // What runs in the compiler, in tests or in the hub is not linked.
    for other in ["serde_derive", "proptest", "axum", "mock-hub"] {
        require(part(other).is_none(), || format!("{other} is in it"))?;
    }
    Ok(())
}

const VALIDATE: &str = "
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read())
sys.exit(str(error) if error else 0)
";

pub(super) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).context(|| format!("could not read {}", path.display()))
}
