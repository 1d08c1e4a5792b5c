//! A release folder with the layout of `cargo xtask dist`, of the agent that was built for the tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Version of the release.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A release.
pub(crate) struct Release {
    folder: tempfile::TempDir,
}

impl Release {
    /// Makes an unsigned release.
    pub(crate) fn new() -> Self {
        let release = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        fs::copy(agent(), release.path(&binary())).unwrap();
        let sums = sha256sum(&release.path(&binary()));
        fs::write(release.path("SHA256SUMS"), &sums).unwrap();
        release.write_script(&sums, "");
        release
    }

    /// Makes a release that is signed with a new key.
    pub(crate) fn signed() -> Self {
        let release = Self::new();
        let key = release.path("key.pub");
        let secret = release.path("key.sec");
        minisign(&["-GW", "-f", "-p", text(&key), "-s", text(&secret)]);
        let sums = release.path("SHA256SUMS");
        minisign(&["-S", "-s", text(&secret), "-m", text(&sums)]);
        let public = fs::read_to_string(&key).unwrap();
        let sums = fs::read_to_string(&sums).unwrap();
        release.write_script(&sums, public.lines().nth(1).unwrap());
        fs::remove_file(secret).unwrap();
        release
    }

    /// Writes install.sh with the values of the release.
    fn write_script(&self, sums: &str, key: &str) {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/install.sh");
        let filled = [
            ("DEFAULT_VERSION=", VERSION.to_owned()),
            (
                "DEFAULT_DOWNLOAD_URL=",
                format!("https://get.monsys.ai/releases/v{VERSION}"),
            ),
            ("CHECKSUMS=", sums.trim_end().to_owned()),
            ("MINISIGN_KEY=", key.to_owned()),
        ];
        let mut script = String::new();
        let mut count = 0;
        for line in fs::read_to_string(source).unwrap().lines() {
            match filled.iter().find(|(name, _)| line.starts_with(name)) {
                Some((name, value)) => {
                    count += 1;
                    script.extend([*name, "'", value, "'\n"]);
                }
                None => script.extend([line, "\n"]),
            }
        }
        assert_eq!(count, filled.len(), "install.sh has lost a line");
        fs::write(self.path("install.sh"), script).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns install.sh of the release.
    pub(crate) fn script(&self) -> String {
        fs::read_to_string(self.path("install.sh")).unwrap()
    }
}

/// Returns the path of the agent without its debug information, the largest part of the file.
///
/// It is made once for all tests of a build: each test is a process of its own, and a copy for each would fill
/// the disk.
pub(crate) fn agent() -> &'static Path {
    static STRIPPED: OnceLock<PathBuf> = OnceLock::new();
    STRIPPED.get_or_init(|| {
        let built = Path::new(env!("CARGO_BIN_EXE_monsys-agent"));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let stripped = folder.join("monsys-agent.stripped");
        let modified = |path: &Path| fs::metadata(path).and_then(|file| file.modified());
        if modified(&stripped).is_ok_and(|time| time > modified(built).unwrap()) {
            return stripped;
        }
        let new = tempfile::NamedTempFile::new_in(folder).unwrap();
        let status = Command::new("strip")
            .arg("-o")
            .arg(new.path())
            .arg(built)
            .status()
            .unwrap();
        assert!(status.success());
        new.persist(&stripped).unwrap();
        stripped
    })
}

/// Returns the name of the binary for this machine.
pub(crate) fn binary() -> String {
    format!("monsys-agent-{VERSION}-linux-{}", std::env::consts::ARCH)
}

fn sha256sum(path: &Path) -> String {
    let output = Command::new("sha256sum")
        .arg(path.file_name().unwrap())
        .current_dir(path.parent().unwrap())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn minisign(arguments: &[&str]) {
    let output = Command::new("minisign").args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
