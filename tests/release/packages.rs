//! The content of the deb and the rpm, and the reports of lintian and rpmlint. Their behaviour on a host
//! is for booted hosts to show.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{ARCHITECTURES, VERSION, dist, from_suite, is_the_binary, lists_file, succeeded};

/// The files of both packages.
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

/// The release and its older packages, each with its version.
fn versions() -> [(PathBuf, &'static str); 2] {
    [
        (dist(), VERSION),
        (from_suite("MONSYS_TEST_OLDER"), "0.0.9"),
    ]
}

fn deb(folder: &Path, version: &str, arch: &str) -> PathBuf {
    folder.join(format!("monsys-agent_{version}-1_{arch}.deb"))
}

fn rpm(folder: &Path, version: &str, arch: &str) -> PathBuf {
    folder.join(format!("monsys-agent-{version}-1.{arch}.rpm"))
}

#[test]
fn the_debs_have_the_right_fields_and_files() {
    for (folder, version) in versions() {
        for (arch, debian) in ARCHITECTURES {
            has_fields_and_files(&deb(&folder, version, debian), arch, debian, version);
        }
    }
}

#[track_caller]
fn has_fields_and_files(deb: &Path, arch: &str, debian: &str, version: &str) {
    let dpkg_deb = |option: &str| {
        let mut command = Command::new("dpkg-deb");
        command.arg(option).arg(deb);
        command
    };
    let fields = succeeded(&mut dpkg_deb("--field"));
    for field in [
        "Package: monsys-agent".to_owned(),
        format!("Version: {version}-1"),
        format!("Architecture: {debian}"),
        // No library: only programs that make the user.
        "Depends: systemd | passwd".to_owned(),
    ] {
        let has = fields.lines().any(|line| line == field);
        assert!(has, "no field {field} in\n{fields}");
    }
    let list = succeeded(&mut dpkg_deb("--contents")).replace(" ./", " /");
    has_files(&list, " 0/0 ");
    for file in [
        "/usr/share/zsh/vendor-completions/_monsys-agent",
        "/usr/share/doc/monsys-agent/copyright",
        "/usr/share/doc/monsys-agent/changelog.Debian.gz",
        "/usr/share/doc/monsys-agent/THIRD-PARTY-LICENSES.gz",
    ] {
        lists_file(&list, "-rw-r--r--", file);
    }
    let scratch = tempfile::tempdir().unwrap();
    let [tree, control] = ["tree", "control"].map(|name| scratch.path().join(name));
    succeeded(dpkg_deb("--extract").arg(&tree));
    succeeded(dpkg_deb("--control").arg(&control));
    // No conffiles: no question about agent.toml, ever.
    let names = fs::read_dir(&control).unwrap();
    let names: BTreeSet<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let expected = ["control", "md5sums", "postinst", "postrm", "prerm"];
    assert_eq!(names, BTreeSet::from(expected.map(str::to_owned)));
    enrols_nothing(&fs::read_to_string(control.join("postinst")).unwrap());
    // `dpkg --verify` compares with these.
    let sums = fs::read_to_string(control.join("md5sums")).unwrap();
    assert_eq!(sums.lines().count(), files_below(&tree), "{sums}");
    let mut check = Command::new("md5sum");
    check.args(["--check", "--strict", "--quiet"]);
    succeeded(check.arg(control.join("md5sums")).current_dir(&tree));
    is_the_binary(&tree.join("usr/bin/monsys-agent"), arch);
}

#[test]
fn the_rpms_have_the_right_fields_and_files() {
    for (folder, version) in versions() {
        for (arch, _) in ARCHITECTURES {
            is_right(&rpm(&folder, version, arch), arch, version);
        }
    }
}

#[track_caller]
fn is_right(rpm: &Path, arch: &str, version: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let query = |options: &[&str]| {
        succeeded(
            with_home("rpm", scratch.path())
                .args(["--query", "--package"])
                .args(options)
                .arg(rpm),
        )
    };
    let format = "%{NAME} %{VERSION}-%{RELEASE} %{ARCH} %{LICENSE}";
    assert_eq!(
        query(&["--queryformat", format]),
        format!("monsys-agent {version}-1 {arch} MIT OR Apache-2.0")
    );
    let needs = query(&["--requires"]);
    let needs: BTreeSet<_> = needs
        .lines()
        .filter(|need| !need.starts_with("rpmlib("))
        .collect();
    assert_eq!(needs, BTreeSet::from(["/bin/sh", "systemd"]));
    assert_eq!(query(&["--configfiles"]), "");
    let list = query(&["--list", "--verbose"]);
    has_files(&list, " root     root ");
    for file in [
        "/usr/share/zsh/site-functions/_monsys-agent",
        "/usr/share/licenses/monsys-agent/LICENSE-MIT",
    ] {
        lists_file(&list, "-rw-r--r--", file);
    }
    enrols_nothing(&query(&["--scripts"]));
    let mut check = with_home("rpm", scratch.path());
    let digests = succeeded(check.args(["--checksig", "--nosignature"]).arg(rpm));
    assert!(digests.trim_end().ends_with("digests OK"), "{digests}");
    let copy = scratch.path().join("package.rpm");
    fs::copy(rpm, &copy).unwrap();
    let mut convert = with_home("rpm2archive", scratch.path());
    succeeded(convert.arg("--nocompression").arg(&copy));
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--file", "package.rpm.tar"]);
    succeeded(tar.current_dir(scratch.path()));
    is_the_binary(&scratch.path().join("usr/bin/monsys-agent"), arch);
}

/// Returns a program of rpm with a home of its own: Debian's rpm keeps its database in the home of its user.
fn with_home(program: &str, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("HOME", home);
    command
}

/// Fails the test unless root owns all files, none is in /etc, and all of [`FILES`] are there.
#[track_caller]
fn has_files(list: &str, owner: &str) {
    let foreign = list.lines().find(|line| !line.contains(owner));
    assert_eq!(foreign, None, "not owned by root");
    assert!(!list.contains(" /etc"), "it has files in /etc:\n{list}");
    for (mode, file) in FILES {
        lists_file(list, mode, file);
    }
}

/// Counts the files below a folder.
fn files_below(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            if entry.file_type().unwrap().is_dir() {
                files_below(&entry.path())
            } else {
                1
            }
        })
        .sum()
}

/// A script may say how to enrol; it must not do it.
#[track_caller]
fn enrols_nothing(script: &str) {
    let mut lines = script.lines();
    let enrols = lines.find(|line| {
        line.contains("monsys-agent enrol") && !line.contains("MONSYS_TOKEN=enrl_...")
    });
    assert_eq!(enrols, None, "a script of the package enrols");
}

/// Each override has its reason beside it.
#[test]
fn lintian_reports_nothing_but_the_overrides() {
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--no-cfg", "-EiIL", "+pedantic"]);
    let every = "error,warning,info,pedantic,experimental";
    lintian.args(["--fail-on", every]);
    for (_, debian) in ARCHITECTURES {
        lintian.arg(deb(&dist(), VERSION, debian));
    }
    succeeded(&mut lintian);
}

#[test]
fn rpmlint_reports_nothing() {
    let home = tempfile::tempdir().unwrap();
    let mut rpmlint = with_home("rpmlint", home.path());
    rpmlint
        .args(["--strict", "--config", "packaging/rpm/rpmlint.toml"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    for (arch, _) in ARCHITECTURES {
        rpmlint.arg(rpm(&dist(), VERSION, arch));
    }
    succeeded(&mut rpmlint);
}
