//! Folders and files around a run of install.sh that belong to somebody else: root runs nothing
//! that others can replace, and waits for nobody.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use crate::failures::Scene;
use crate::release::binary;
use crate::script::{feed, served};

/// Another user than root, and the group `nogroup`.
const NOBODY: u32 = 65534;

/// Gives a folder of the machine this owner, group and mode, and makes it when it is missing.
fn folder(scene: &Scene, path: &str, owner: u32, group: u32, mode: u32) {
    let path = scene.machine.path(path);
    fs::create_dir_all(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    chown(&path, Some(owner), Some(group)).unwrap();
}

/// Has whoever may rename things in TMPDIR do so right after the checksum was computed, and put a
/// program of their own into the place of the one that was verified.
fn swap_after_the_checksum(scene: &Scene) {
    let program = scene.machine.path("srv/swap");
    scene.machine.program(
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
    scene.machine.program("srv/swap", swap);
}

/// Which folder the program was run from.
fn ran_below(scene: &Scene) -> String {
    let made = fs::read_to_string(scene.machine.path("srv/made")).unwrap();
    let template = Path::new(made.lines().last().unwrap());
    template.parent().unwrap().display().to_string()
}

/// A machine that writes down where install.sh makes its folder.
fn scene() -> Scene {
    let scene = Scene::new();
    scene.machine.program(
        "usr/bin/mktemp",
        "#!/bin/sh\necho \"$2\" >>/srv/made\nexec /bin/busybox mktemp \"$@\"\n",
    );
    scene
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn root_runs_nothing_from_a_tmpdir_where_other_users_can_rename() {
    type Lay = fn(&Scene);
    let cases: [(&str, &str, Lay); 6] = [
        ("another user's", "/srv/tmp", |scene| {
            folder(scene, "srv/tmp", NOBODY, NOBODY, 0o755);
        }),
        ("another user's, and sticky", "/srv/tmp", |scene| {
            folder(scene, "srv/tmp", NOBODY, NOBODY, 0o1777);
        }),
        ("open to all", "/srv/tmp", |scene| {
            folder(scene, "srv/tmp", 0, 0, 0o777);
        }),
        ("open to a group", "/srv/tmp", |scene| {
            folder(scene, "srv/tmp", 0, 100, 0o775);
        }),
        ("root's, below another user's", "/srv/home/tmp", |scene| {
            folder(scene, "srv/home/tmp", 0, 0, 0o755);
            folder(scene, "srv/home", NOBODY, NOBODY, 0o755);
        }),
        ("behind a link", "/srv/link", |scene| {
            folder(scene, "srv/tmp", NOBODY, NOBODY, 0o755);
            symlink("/srv/tmp", scene.machine.path("srv/link")).unwrap();
        }),
    ];
    for (what, path, lay) in cases {
        let scene = scene();
        lay(&scene);
        swap_after_the_checksum(&scene);
        scene.install(&[("TMPDIR", path)]).expect(0);
        println!("{what}: ran below {}", ran_below(&scene));
        assert!(!scene.machine.path("run/swapped").exists(), "{what}");
        assert_eq!(ran_below(&scene), "/var/tmp", "{what}");
        scene.hub.expect_one_slot();
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
        let scene = scene();
        folder(&scene, "srv/my tmp", 0, group, mode);
        swap_after_the_checksum(&scene);
        scene.install(&[("TMPDIR", "/srv/my tmp")]).expect(0);
        assert!(!scene.machine.path("run/swapped").exists(), "{what}");
        assert_eq!(ran_below(&scene), "/srv/my tmp", "{what}");
        scene.hub.expect_one_slot();
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
        let mut scene = Scene::new();
        let laid = format!("mkdir -p /srv/release && {make}");
        crate::machine::run(scene.machine.command(&["sh", "-c", &laid])).expect(0);
        scene.before = scene.machine.changes();
        let script = served(&scene.release, &scene.hub);
        // The old script waited for ever: the limit ends the test then.
        let mut command = scene.machine.command(&["timeout", "60", "sh"]);
        command
            .env("MONSYS_TOKEN", &scene.token)
            .env("MONSYS_DOWNLOAD_URL", "file:///srv/release");
        println!("{make}");
        let says = [
            &file,
            "is not a regular file",
            "MONSYS_DOWNLOAD_URL=file://",
        ];
        scene.has_failed(feed(command, &script), 69, &says);
    }
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_file_in_the_current_folder_is_not_run_as_the_script() {
    for shell in ["sh", "bash", "mksh"] {
        let mut scene = Scene::new();
        // Behind a pipe, the shell's name is all that the script knows of itself.
        let planted = scene
            .machine
            .lay(&format!("tmp/{shell}"), "MINISIGN_KEY=''\n");
        chown(planted, Some(NOBODY), Some(NOBODY)).unwrap();
        scene.before = scene.machine.changes();
        let script = served(&scene.release, &scene.hub);
        let mut nobody = scene.machine.command_of("65534:65534", &[shell]);
        nobody.env("MONSYS_TOKEN", &scene.token);
        let run = feed(nobody, &script);
        assert!(
            !run.stderr.contains(&format!("sh {shell}")),
            "{}",
            run.stderr
        );
        let line = format!(
            "{}/install.sh | sudo --preserve-env=MONSYS_TOKEN sh",
            scene.hub.url()
        );
        scene.has_failed(run, 73, &[&line]);
    }
}
