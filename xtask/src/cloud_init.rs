//! cloud-init itself, Debian's, unpacked under target/ and never installed: what it makes of user
//! data at a first boot, in a mount namespace of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::error::{Context, Result, Stop};
use crate::{process, tools};

/// cloud-init, ready to run.
pub(crate) struct CloudInit {
    /// A script that runs it.
    program: PathBuf,
    /// A script that runs Python with its modules.
    python: PathBuf,
}

/// What came of a first boot.
pub(crate) struct Boot {
    /// Output of `cloud-init status --long`.
    pub(crate) status: String,
    /// What its scripts said: /var/log/cloud-init-output.log.
    pub(crate) output: String,
    /// Its own log.
    pub(crate) log: String,
    /// What the script said that ran after it; empty without one.
    pub(crate) after: String,
    /// Files that the boot script had, and that are still there at the end.
    pub(crate) left: String,
}

impl Boot {
    /// Whether cloud-init says that all went well.
    pub(crate) fn is_done(&self) -> bool {
        self.status.contains("status: done")
    }

    /// All that there is to know, for a message.
    pub(crate) fn told(&self) -> String {
        let Self {
            status,
            output,
            after,
            left,
            ..
        } = self;
        format!("{status}--- output\n{output}--- after\n{after}--- left\n{left}")
    }
}

impl CloudInit {
    /// Gets it, unless a run before has.
    pub(crate) async fn get() -> Result<Self> {
        let python = tools::venv("cloud-init", "xtask/requirements/cloud-init.txt").await?;
        let dir = tools::target().join("cloud-init");
        let program = dir.join("cloud-init");
        let packages = dir.join("root/usr/lib/python3/dist-packages");
        let path = format!("#!/bin/sh\nPYTHONPATH={} exec ", packages.display());
        let interpreter = python.join("python");
        let modules = dir.join("python");
        let scripts = [
            (&program, "-m cloudinit.cmd.main \"$@\"\n"),
            (&modules, "\"$@\"\n"),
        ]
        .map(|(file, rest)| (file, format!("{path}{} {rest}", interpreter.display())));
        tools::once(&dir, &scripts[0].1, async || unpack(&dir).await).await?;
        for (file, script) in &scripts {
            let what = || format!("could not write {}", file.display());
            fs::write(file, script).context(what)?;
            fs::set_permissions(file, fs::Permissions::from_mode(0o755)).context(what)?;
        }
        Ok(Self {
            program,
            python: modules,
        })
    }

    /// A Python that can import it.
    pub(crate) fn python(&self) -> &Path {
        &self.python
    }

    /// A first boot with that user data; `after` is a script that runs at its end, as root.
    pub(crate) async fn first_boot(
        &self,
        user_data: impl AsRef<[u8]>,
        meta_data: &str,
        after: Option<&str>,
    ) -> Result<Boot> {
        let work = tempfile::tempdir().context(|| "no scratch directory".to_owned())?;
        let path = |name: &str| work.path().join(name);
        let write = |name: &str, bytes: &[u8]| {
            fs::write(path(name), bytes).context(|| format!("could not write {name}"))
        };
        write("user-data", user_data.as_ref())?;
        write("meta-data", meta_data.as_bytes())?;
        if let Some(after) = after {
            write("after", after.as_bytes())?;
        }
        std::os::unix::fs::symlink(&self.program, path("cloud-init"))
            .context(|| "could not link cloud-init".to_owned())?;
        let mut boot = Command::new("unshare");
        boot.args(["--mount", "--propagation=private", "sh"])
            .arg(tools::root().join("tests/cloud-init/first-boot.sh"))
            .arg(work.path())
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("AWS_EC2_METADATA_DISABLED", "true");
        let said = process::capture(&mut boot).await?;
        if !said.status.success() {
            return Err(Stop::failed(format!("first-boot.sh: {}", said.text())));
        }
        let read = |name: &str| fs::read_to_string(path(name)).unwrap_or_default();
        Ok(Boot {
            status: read("status"),
            output: read("output"),
            log: read("cloud-init.log"),
            after: read("after.log"),
            left: read("left"),
        })
    }
}

/// Debian's package, as apt has it. It is not installed: nothing of it runs at this machine's boot.
async fn unpack(dir: &Path) -> Result<()> {
    let may = nix::unistd::geteuid().is_root() && Path::new("/usr/bin/apt-get").exists();
    if !may {
        return Err(Stop::missing("needs root, and Debian's apt for cloud-init"));
    }
    fs::create_dir_all(dir).context(|| format!("could not make {}", dir.display()))?;
    println!("unpacking cloud-init into {}", tools::shown(dir));
    let download = "apt-get update -qq && apt-get download -qq cloud-init && dpkg -x *.deb root";
    let mut shell = Command::new("sh");
    shell.args(["-c", download]).current_dir(dir);
    tools::install(&mut shell).await
}
