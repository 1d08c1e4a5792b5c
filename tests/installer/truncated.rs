//! install.sh, cut at every byte, does nothing at all.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

/// The programs that the script calls, or that a cut word of it could be on some host.
const PROGRAMS: [&str; 24] = [
    "busybox",
    "chmod",
    "cp",
    "curl",
    "echo",
    "env",
    "grep",
    "id",
    "ls",
    "minisign",
    "mktemp",
    "openssl",
    "printf",
    "rm",
    "sed",
    "sh",
    "sha256sum",
    "shasum",
    "sudo",
    "tail",
    "test",
    "tr",
    "uname",
    "wget",
];

#[test]
fn cut_at_every_byte_it_does_nothing() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/install.sh");
    let script = fs::read(path).unwrap();
    assert_eq!(script.last(), Some(&b'\n'));
    let scratch = tempfile::tempdir().unwrap();
    let (fakes, home) = (scratch.path().join("fakes"), scratch.path().join("home"));
    let called = scratch.path().join("called");
    fs::create_dir(&fakes).unwrap();
    fs::create_dir(&home).unwrap();
    for name in PROGRAMS {
        let fake = format!("#!/bin/sh\necho {name} >>{}\n", called.display());
        fs::write(fakes.join(name), fake).unwrap();
        fs::set_permissions(fakes.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let run = |shell: &[&str], length: usize| {
        let cut = scratch.path().join("cut");
        fs::write(&cut, &script[..length]).unwrap();
        Command::new(shell[0])
            .args(&shell[1..])
            .env_clear()
            .env("PATH", &fakes)
            .env("HOME", &home)
            .env("TMPDIR", &home)
            .env("MONSYS_TOKEN", "enrl_0123456789")
            .current_dir(&home)
            .stdin(fs::File::open(&cut).unwrap())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
    };
    // One shell at every byte, the others where the script is nearly whole. Of the last byte, the
    // end of the line, nothing depends: without it the script is whole.
    let whole = script.len() - 1;
    for (shell, from) in [
        (&["/bin/dash"][..], 0),
        (&["/bin/bash", "--posix"], whole - 200),
        (&["/bin/busybox", "ash"], whole - 200),
        (&["/bin/mksh"], whole - 200),
        (&["/bin/zsh", "-f"], whole - 200),
    ] {
        for length in from..whole {
            run(shell, length);
            assert!(
                !called.exists(),
                "{shell:?}, cut at byte {length}, called {:?}",
                fs::read_to_string(&called)
            );
        }
        // The fakes do notice: the whole script calls them.
        run(shell, script.len());
        let calls = fs::read_to_string(&called).unwrap_or_default();
        assert!(calls.contains("id\n"), "{shell:?}: {calls:?}");
        fs::remove_file(&called).unwrap();
    }
    assert_eq!(fs::read_dir(&home).unwrap().count(), 0);
}
