//! Bootable Debian trees for the tests with booted hosts, made once and kept under target/.

use std::fs;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use xtask::error::{Context, Result};
use xtask::tools;

/// Releases. Bullseye has systemd 247, the oldest that the unit is booted with, and cloud-init 20.4, the oldest
/// here; forky is Debian testing.
const RELEASES: [&str; 4] = ["bookworm", "trixie", "bullseye", "forky"];
/// Packages of every host beyond those that boot it, so that each way to install works on each release.
const PACKAGES: &str = "ca-certificates,cloud-init,curl,iproute2,openssh-server,procps,python3,python3-apt,rpm,sudo,wget";

/// Makes the trees that are not there yet; gives the folder that they are in.
pub(crate) async fn all() -> Result<PathBuf> {
    let folder = tools::target().join("trees");
    fs::create_dir_all(&folder).context(|| format!("could not make {}", folder.display()))?;
    for release in RELEASES {
        let tree = folder.join(release);
        let stamps = folder.join(format!("{release}.made"));
        // The stamp is not in the tree: a host should not find it.
        tools::once(&stamps, PACKAGES, async || {
            fs::create_dir_all(&stamps)
                .context(|| format!("could not make {}", stamps.display()))?;
            make(release, &tree).await
        })
        .await?;
    }
    Ok(folder)
}

async fn make(release: &str, tree: &Path) -> Result<()> {
    println!("laying out a bootable {release} in {}", tools::shown(tree));
    if tree.exists() {
        fs::remove_dir_all(tree).context(|| format!("could not remove {}", tree.display()))?;
    }
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap
        .args(["--quiet", "--format=directory", "--variant=minbase"])
        .arg(format!("--include=systemd,systemd-sysv,dbus,{PACKAGES}"))
        .args([
            "--aptopt=Acquire::Languages \"none\"",
            "--aptopt=APT::Install-Recommends \"false\"",
            // A mirror that is a snapshot stands still. What it has is signed all the same.
            "--aptopt=Acquire::Check-Valid-Until \"false\"",
        ])
        .args([
            "--dpkgopt=force-unsafe-io",
            "--dpkgopt=path-exclude=/usr/share/doc/*",
        ])
        .args([
            "--dpkgopt=path-exclude=/usr/share/locale/*",
            "--dpkgopt=path-exclude=/usr/share/man/*",
        ])
        .args([release])
        .arg(tree);
    tools::install(&mut mmdebstrap).await?;
    // Each host makes its own at its first boot.
    fs::write(tree.join("etc/machine-id"), "")
        .context(|| format!("could not empty the machine-id of {}", tree.display()))?;
    for kind in ["ecdsa", "ed25519", "rsa"] {
        for file in [
            format!("ssh_host_{kind}_key"),
            format!("ssh_host_{kind}_key.pub"),
        ] {
            let _ = fs::remove_file(tree.join("etc/ssh").join(file));
        }
    }
    Ok(())
}
