//! The folder that the role makes for the program on the host.

use std::fs;

use super::{NOBODY, USERS, give, prepare};
use crate::machine::{Machine, run};

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_fetched_file_is_where_only_root_can_replace_it() {
    for is_busybox in [false, true] {
        for (owner, mode, below) in [
            (NOBODY, 0o755, "/tmp/"),
            (NOBODY, 0o1777, "/tmp/"),
            (0, 0o777, "/tmp/"),
            (0, 0o1777, "/srv/tmp/"),
            (0, 0o700, "/srv/tmp/"),
        ] {
            let machine = Machine::new();
            fs::create_dir_all(machine.path("srv/tmp")).unwrap();
            give(&machine, "srv/tmp", owner, USERS, mode);
            let mut stage = prepare(&machine, is_busybox, "stage.sh");
            stage.env("TMPDIR", "/srv/tmp");
            let staged = run(stage).expect(0).stdout;
            assert!(staged.starts_with(below), "{owner} {mode:o}: {staged}");
        }
    }
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_folder_without_room_is_skipped_and_named() {
    for is_busybox in [false, true] {
        let machine = Machine::new();
        machine.mount_small("tmp", "64k");
        let staged = run(prepare(&machine, is_busybox, "stage.sh")).expect(0);
        assert!(staged.stdout.starts_with("/var/tmp/"), "{}", staged.stdout);
        assert_eq!(fs::read_dir(machine.path("tmp")).unwrap().count(), 0);

        machine.remount("var/tmp", "ro");
        machine.remount("run", "noexec");
        give(&machine, "opt", NOBODY, USERS, 0o755);
        run(prepare(&machine, is_busybox, "stage.sh"))
            .expect(73)
            .expect_stderr(&[
                "/tmp: No space left on device; /var/tmp: Read-only file system; /run: programs cannot run",
                "; /opt: others than root can replace files in it",
            ]);
    }
}
