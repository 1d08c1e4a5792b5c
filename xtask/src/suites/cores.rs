//! Versions of ansible-core that play the role, each in an environment of its own. Those that need a newer
//! Python than this machine's run with `/usr` of a tree.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use xtask::error::{Context, Result, Stop};
use xtask::tools;

use super::trees::CONTROLLER;

/// An ansible-core: its version, whether it runs with Python of the tree, and whether only a long run has it.
/// All other tests have 2.19.
const CORES: [(&str, bool, bool); 5] = [
    ("2.16", false, false),
    ("2.17", false, true),
    ("2.18", false, true),
    ("2.20", true, true),
    ("2.21", true, false),
];
/// Runs a command with `/usr` of the tree `$0` in a mount namespace of its own.
const WITH_TREE: &str = r#"mount --bind "$0/usr" /usr && exec "$@""#;
/// The programs that the tests run.
const PROGRAMS: [&str; 2] = ["ansible-galaxy", "ansible-playbook"];

/// Installs the versions; gives the folders of their programs, joined as in `PATH`.
pub(super) async fn all(is_long: bool, trees: &Path) -> Result<OsString> {
    let mut folders = Vec::new();
    for (version, needs_tree, is_only_long) in CORES {
        if is_only_long && !is_long {
            continue;
        }
        let name = format!("ansible-core-{version}");
        let requirements = format!("xtask/requirements/{name}.txt");
        folders.push(if needs_tree {
            with_tree(&name, &requirements, &trees.join(CONTROLLER)).await?
        } else {
            tools::venv(&name, &requirements).await?
        });
    }
    std::env::join_paths(folders).map_err(|cause| Stop::failed(cause.to_string()))
}

/// Makes a Python environment with Python of the tree, and scripts that run its programs there.
async fn with_tree(name: &str, requirements: &str, tree: &Path) -> Result<PathBuf> {
    let dir = tools::target().join(format!("venv-{name}"));
    let scripts = dir.join("with-tree");
    let wanted = fs::read_to_string(tools::root().join(requirements))
        .context(|| format!("could not read {requirements}"))?;
    let wanted = format!("{wanted}{WITH_TREE}{}", tree.display());
    tools::once(&dir, &wanted, async || {
        println!("installing {requirements} into {}", tools::shown(&dir));
        let inside = |program: &Path| {
            let mut command = Command::new("unshare");
            command
                .args(["--mount", "--propagation=private", "sh", "-c", WITH_TREE])
                .arg(tree)
                .arg(program)
                .current_dir(tools::root());
            command
        };
        let mut python = inside(Path::new("/usr/bin/python3"));
        tools::install(python.args(["-m", "venv"]).arg(&dir)).await?;
        let mut pip = inside(&dir.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check"])
            .args(["--requirement", requirements]);
        tools::install(&mut pip).await?;
        let what = || format!("could not fill {}", scripts.display());
        fs::create_dir_all(&scripts).context(what)?;
        for program in PROGRAMS {
            let script = scripts.join(program);
            let text = format!(
                "#!/bin/sh\nexec unshare --mount --propagation=private sh -c '{WITH_TREE}' {} {} \"$@\"\n",
                tree.display(),
                dir.join("bin").join(program).display()
            );
            fs::write(&script, text).context(what)?;
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).context(what)?;
        }
        Ok(())
    })
    .await?;
    Ok(scripts)
}
