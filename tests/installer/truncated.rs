//! install.sh cut off at any byte does nothing.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

/// The programs that the script calls, and those that a truncated word of it could name.
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
fn a_script_cut_at_any_byte_does_nothing() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/install.sh");
    let script = fs::read(path).unwrap();
    assert_eq!(script.last(), Some(&b'\n'));
    let scratch = tempfile::tempdir().unwrap();
    let (fakes, home) = (scratch.path().join("fakes"), scratch.path().join("home"));
    // Contains a file for each program that was called.
    let called = scratch.path().join("called");
    for folder in [&fakes, &home, &called] {
        fs::create_dir(folder).unwrap();
    }
    let mut functions = String::new();
    for name in PROGRAMS {
        let notes = format!(": >{}", called.join(name).display());
        fs::write(fakes.join(name), format!("#!/bin/sh\n{notes}\n")).unwrap();
        fs::set_permissions(fakes.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        writeln!(functions, "{name}() {{ {notes}; }}").unwrap();
    }
    let calls = || {
        fs::read_dir(&called)
            .unwrap()
            .map(|it| it.unwrap().file_name())
    };
    let run = |shell: &[&str], length: usize| {
        let cut = scratch.path().join("cut");
        // A BusyBox may be built to prefer its applets to programs in PATH. Functions have precedence in
        // every build.
        let is_busybox = shell[0].ends_with("busybox");
        let fakes_before = if is_busybox {
            functions.as_bytes()
        } else {
            b""
        };
        fs::write(&cut, [fakes_before, &script[..length]].concat()).unwrap();
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
    // dash at every byte, the others near the end of the script. The last byte is the line break; the
    // script is complete without it.
    let complete = script.len() - 1;
    for (shell, from) in [
        (&["/bin/dash"][..], 0),
        (&["/bin/bash", "--posix"], complete - 200),
        (&["/bin/busybox", "ash"], complete - 200),
        (&["/bin/mksh"], complete - 200),
        (&["/bin/zsh", "-f"], complete - 200),
    ] {
        for length in from..complete {
            run(shell, length);
            let first = calls().next();
            assert_eq!(first, None, "{shell:?}, cut at byte {length}");
        }
        // The complete script does call the fakes.
        run(shell, script.len());
        assert!(calls().any(|name| name == "id"), "{shell:?}");
        for name in calls() {
            fs::remove_file(called.join(name)).unwrap();
        }
    }
    assert_eq!(fs::read_dir(&home).unwrap().count(), 0);
}
