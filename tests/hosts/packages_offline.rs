//! The deb and the rpm in a tree that is not booted, as image builders install them: `dpkg --root`, `rpm --root`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::disk::Disk;
use crate::lan::Lan;
use crate::prepared::{dist, older_packages};

pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
const OLDER: &str = "0.0.9";
const LINK: &str = "etc/systemd/system/multi-user.target.wants/monsys-agent.service";

/// The format of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Deb,
    Rpm,
}

impl Format {
    fn package(self, version: &str) -> PathBuf {
        let folder = if version == OLDER {
            older_packages()
        } else {
            dist()
        };
        folder.join(match self {
            Self::Deb => format!("monsys-agent_{version}-1_amd64.deb"),
            Self::Rpm => format!("monsys-agent-{version}-1.x86_64.rpm"),
        })
    }

    /// Copies both versions of the package to the host: `/root/old.deb` and `/root/new.deb`, or `.rpm`.
    pub(crate) fn bring(self, disk: &Disk) {
        for (version, name) in [(OLDER, "old"), (VERSION, "new")] {
            let package = self.package(version);
            let suffix = package.extension().unwrap().display().to_string();
            fs::copy(&package, disk.path(&format!("root/{name}.{suffix}"))).unwrap();
        }
    }

    /// Returns the commands of a running host that install the older and the newer version.
    pub(crate) fn commands(self) -> [&'static str; 2] {
        match self {
            Self::Deb => ["dpkg -i /root/old.deb", "dpkg -i /root/new.deb"],
            // Debian's rpm does not know the packages of dpkg.
            Self::Rpm => [
                "rpm -U --oldpackage --nodeps /root/old.rpm",
                "rpm -U --nodeps /root/new.rpm",
            ],
        }
    }

    /// Returns the command of a running host that compares the files with the package.
    pub(crate) fn verification(self) -> &'static str {
        match self {
            // The dpkg of the trees leaves documentation out.
            Self::Deb => "! dpkg --verify monsys-agent | grep -v ' /usr/share/\\(doc\\|man\\)/'",
            Self::Rpm => "rpm --verify --nodeps monsys-agent",
        }
    }

    pub(crate) fn removal(self) -> &'static str {
        match self {
            Self::Deb => "dpkg --remove monsys-agent",
            Self::Rpm => "rpm -e monsys-agent",
        }
    }

    /// Runs the package manager on a tree; returns its output.
    #[track_caller]
    fn run(self, disk: &Disk, arguments: &[&str]) -> String {
        let root = disk.root().display().to_string();
        let mut command = match self {
            Self::Deb => {
                let mut dpkg = Command::new("dpkg");
                dpkg.arg(format!("--root={root}"));
                dpkg
            }
            Self::Rpm => {
                let mut rpm = Command::new("rpm");
                rpm.arg(format!("--root={root}"));
                rpm
            }
        };
        let output = command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}\n{text}");
        text
    }

    #[track_caller]
    fn put(self, disk: &Disk, version: &str) -> String {
        let package = self.package(version).display().to_string();
        match self {
            Self::Deb => self.run(disk, &["--install", &package]),
            Self::Rpm => self.run(disk, &["-U", "--oldpackage", "--nodeps", &package]),
        }
    }

    /// Installs the older version into a tree that is not booted.
    #[track_caller]
    pub(crate) fn install_into(self, disk: &Disk) -> String {
        self.put(disk, OLDER)
    }

    #[track_caller]
    fn remove(self, disk: &Disk) {
        match self {
            Self::Deb => self.run(disk, &["--remove", "monsys-agent"]),
            Self::Rpm => self.run(disk, &["--erase", "monsys-agent"]),
        };
    }
}

#[test]
fn a_package_is_upgraded_downgraded_and_removed_in_a_tree_that_is_not_booted() {
    let _lan = Lan::new();
    for format in [Format::Deb, Format::Rpm] {
        let disk = Disk::debian("bookworm", "image");
        for version in [OLDER, VERSION, OLDER, VERSION] {
            format.put(&disk, version);
            assert!(
                disk.exists("usr/bin/monsys-agent") && disk.exists(LINK),
                "{format:?}"
            );
            for name in ["passwd", "group"] {
                let file = disk.read(&format!("etc/{name}"));
                assert!(file.contains("\nmonsys:"), "{format:?}: {file}");
            }
        }
        format.remove(&disk);
        assert!(!disk.exists("usr/bin/monsys-agent"), "{format:?}");
        format.put(&disk, VERSION);
        assert!(disk.exists(LINK), "{format:?}");
        if format == Format::Deb {
            format.run(&disk, &["--purge", "monsys-agent"]);
            for path in [LINK, "etc/monsys", "var/lib/monsys", "usr/bin/monsys-agent"] {
                assert!(!disk.exists(path), "{path}");
            }
        }
    }
}

#[test]
fn presets_decide_at_the_first_installation_and_the_administrator_afterwards() {
    let _lan = Lan::new();
    for format in [Format::Deb, Format::Rpm] {
        let disk = Disk::debian("bookworm", "image");
        // Fedora's last preset.
        disk.write(
            "etc/systemd/system-preset/99-default-disable.preset",
            "disable *\n",
        );
        format.put(&disk, OLDER);
        assert!(!disk.exists(LINK), "{format:?}");
        format.put(&disk, VERSION);
        assert!(
            !disk.exists(LINK),
            "{format:?}: an upgrade has enabled the unit"
        );
        let systemctl = |verb: &str| {
            let mut systemctl = Command::new("systemctl");
            let root = format!("--root={}", disk.root().display());
            let status = systemctl
                .args([&root, verb, "monsys-agent.service"])
                .status();
            assert!(status.unwrap().success());
        };
        systemctl("enable");
        format.put(&disk, OLDER);
        format.put(&disk, VERSION);
        assert!(
            disk.exists(LINK),
            "{format:?}: an upgrade has disabled the unit"
        );

        let disk = Disk::debian("bookworm", "image");
        format.put(&disk, OLDER);
        let disable = ["disable", "monsys-agent.service"];
        let root = format!("--root={}", disk.root().display());
        let status = Command::new("systemctl").arg(root).args(disable).status();
        assert!(status.unwrap().success());
        format.put(&disk, VERSION);
        assert!(
            !disk.exists(LINK),
            "{format:?}: an upgrade has enabled the unit"
        );
    }
}

/// `dpkg --verify` compares by the control file `md5sums`.
#[test]
fn the_package_manager_finds_a_changed_file() {
    let _lan = Lan::new();
    for format in [Format::Deb, Format::Rpm] {
        let disk = Disk::debian("bookworm", "image");
        format.put(&disk, VERSION);
        let mut verify = match format {
            Format::Deb => Command::new("dpkg"),
            Format::Rpm => Command::new("rpm"),
        };
        verify
            .arg(format!("--root={}", disk.root().display()))
            .args(["--verify", "monsys-agent"]);
        if format == Format::Rpm {
            verify.arg("--nodeps");
        }
        let mut verified = || String::from_utf8(verify.output().unwrap().stdout).unwrap();
        assert_eq!(verified(), "");
        let unit = "usr/lib/systemd/system/monsys-agent.service";
        disk.write(unit, "[Service]\n");
        assert!(verified().contains(&format!("/{unit}")), "{format:?}");
    }
}
