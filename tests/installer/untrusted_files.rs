//! Folders and files of other users around a run of install.sh: root runs nothing that other users can
//! replace, and is not blocked by them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use crate::fixture::Fixture;
use crate::release::binary;
use crate::script::{feed, served};

/// The user `nobody` and the group `nogroup`.
pub(crate) const NOBODY: u32 = 65534;

/// Sets owner, group and mode of a folder of the machine, and makes a missing folder.
pub(crate) fn folder(fixture: &Fixture, path: &str, owner: u32, group: u32, mode: u32) {
    let path = fixture.machine.path(path);
    fs::create_dir_all(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    chown(&path, Some(owner), Some(group)).unwrap();
}

/// Makes another user replace the verified program right after the checksum was computed, if that user
/// can rename files in TMPDIR.
fn swap_after_the_checksum(fixture: &Fixture) {
    let program = fixture.machine.path("srv/swap");
    fixture.machine.program(
        "usr/bin/sha256sum",
        format!(
            "#!/bin/sh\n/bin/busybox sha256sum\n\
             setpriv --reuid={NOBODY} --regid={NOBODY} --groups=100 /srv/swap >/dev/null 2>&1\nexit 0\n"
        ),
    );
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    let swap = format!(
        "#!/bin/sh\ncd \"$TMPDIR\" || exit\nfor folder in monsys-install.*; do\n\
         mv \"$folder\" \"$folder.away\" && mkdir -m 777 \"$folder\" || exit\n\
         printf '#!/bin/sh\\nid >/run/swapped\\n' >\"$folder/{name}\"\nchmod 755 \"$folder/{name}\"\ndone\n",
        name = binary()
    );
    fixture.machine.program("srv/swap", swap);
}

/// Returns the folder from which the program was run.
pub(crate) fn ran_below(fixture: &Fixture) -> String {
    let made = fs::read_to_string(fixture.machine.path("srv/made")).unwrap();
    let template = Path::new(made.lines().last().unwrap());
    template.parent().unwrap().display().to_string()
}

/// Makes a machine that records where install.sh makes its folder.
pub(crate) fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.machine.program(
        "usr/bin/mktemp",
        "#!/bin/sh\necho \"$2\" >>/srv/made\nexec /bin/busybox mktemp \"$@\"\n",
    );
    fixture
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn root_runs_nothing_from_a_tmpdir_where_other_users_can_rename() {
    type Lay = fn(&Fixture);
    let cases: [(&str, &str, Lay); 6] = [
        ("another user's", "/srv/tmp", |fixture| {
            folder(fixture, "srv/tmp", NOBODY, NOBODY, 0o755);
        }),
        ("another user's, and sticky", "/srv/tmp", |fixture| {
            folder(fixture, "srv/tmp", NOBODY, NOBODY, 0o1777);
        }),
        ("open to all", "/srv/tmp", |fixture| {
            folder(fixture, "srv/tmp", 0, 0, 0o777);
        }),
        ("open to a group", "/srv/tmp", |fixture| {
            folder(fixture, "srv/tmp", 0, 100, 0o775);
        }),
        ("root's, below another user's", "/srv/home/tmp", |fixture| {
            folder(fixture, "srv/home/tmp", 0, 0, 0o755);
            folder(fixture, "srv/home", NOBODY, NOBODY, 0o755);
        }),
        ("behind a link", "/srv/link", |fixture| {
            folder(fixture, "srv/tmp", NOBODY, NOBODY, 0o755);
            symlink("/srv/tmp", fixture.machine.path("srv/link")).unwrap();
        }),
    ];
    for (what, path, lay) in cases {
        let fixture = fixture();
        lay(&fixture);
        swap_after_the_checksum(&fixture);
        fixture.install(&[("TMPDIR", path)]).expect(0);
        println!("{what}: ran below {}", ran_below(&fixture));
        assert!(!fixture.machine.path("run/swapped").exists(), "{what}");
        assert_eq!(ran_below(&fixture), "/tmp", "{what}");
        fixture.hub.expect_one_slot();
    }
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_tmpdir_of_root_is_used() {
    for (what, mode, group) in [
        ("root's alone", 0o700, 0),
        ("with root's group", 0o775, 0),
        ("sticky", 0o1777, 100),
    ] {
        let fixture = fixture();
        folder(&fixture, "srv/my tmp", 0, group, mode);
        swap_after_the_checksum(&fixture);
        fixture.install(&[("TMPDIR", "/srv/my tmp")]).expect(0);
        assert!(!fixture.machine.path("run/swapped").exists(), "{what}");
        assert_eq!(ran_below(&fixture), "/srv/my tmp", "{what}");
        fixture.hub.expect_one_slot();
    }
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_pipe_or_a_device_among_the_files_of_a_release_is_an_error() {
    let name = binary();
    let file = format!("/srv/release/{name}");
    for make in [
        format!("mkfifo {file}"),
        format!("mknod {file} c 1 5"),
        format!("ln -s /dev/zero {file}"),
        format!("mkdir {file}"),
    ] {
        let mut fixture = Fixture::new();
        let laid = format!("mkdir -p /srv/release && {make}");
        crate::machine::run(fixture.machine.command(&["sh", "-c", &laid])).expect(0);
        fixture.before = fixture.machine.changes();
        let script = served(&fixture.release, &fixture.hub);
        // timeout(1) ends the test if the script blocks.
        let mut command = fixture.machine.command(&["timeout", "60", "sh"]);
        command
            .env("MONSYS_TOKEN", &fixture.token)
            .env("MONSYS_DOWNLOAD_URL", "file:///srv/release");
        println!("{make}");
        let message = [
            &file,
            "is not a regular file",
            "MONSYS_DOWNLOAD_URL=file://",
        ];
        fixture.expect_failed(feed(command, &script), 69, &message);
    }
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_file_in_the_current_folder_is_not_run_as_the_script() {
    for shell in ["sh", "bash", "mksh"] {
        let mut fixture = Fixture::new();
        // Behind a pipe, $0 is the name of the shell.
        let planted = fixture
            .machine
            .write_file(&format!("tmp/{shell}"), "MINISIGN_KEY=''\n");
        chown(planted, Some(NOBODY), Some(NOBODY)).unwrap();
        fixture.before = fixture.machine.changes();
        let script = served(&fixture.release, &fixture.hub);
        let mut unprivileged = fixture.machine.command_of("65534:65534", &[shell]);
        unprivileged.env("MONSYS_TOKEN", &fixture.token);
        let run = feed(unprivileged, &script);
        assert!(
            !run.stderr.contains(&format!("sh {shell}")),
            "{}",
            run.stderr
        );
        let line = format!(
            "{}/install.sh | sudo --preserve-env=MONSYS_TOKEN sh",
            fixture.hub.url()
        );
        fixture.expect_failed(run, 73, &[&line]);
    }
}
