//! The folder into which install.sh downloads: the first one that has room, allows programs to run, and belongs
//! to root.

use crate::machine::Machine;
use crate::untrusted_files::{NOBODY, fixture, folder, ran_below};

#[test]
#[ignore = "needs root: mounts an overlay"]
fn an_unusable_tmp_is_skipped() {
    type Case = (
        &'static str,
        &'static [(&'static str, &'static str)],
        fn(&Machine),
    );
    let cases: [Case; 5] = [
        ("no room for a file", &[], |machine| {
            machine.mount_small("tmp", "64k");
        }),
        (
            "no room for the program",
            &[("TMPDIR", "/tmp")],
            |machine| {
                machine.mount_small("tmp", "1m");
            },
        ),
        (
            "no TMPDIR, and no room",
            &[("TMPDIR", "/srv/gone")],
            |machine| {
                machine.mount_small("tmp", "1m");
            },
        ),
        ("read-only", &[], |machine| machine.remount("tmp", "ro")),
        ("noexec", &[], |machine| machine.remount("tmp", "noexec")),
    ];
    for (what, variables, break_it) in cases {
        let fixture = fixture();
        break_it(&fixture.machine);
        println!("{what}, {variables:?}");
        fixture.install(variables).expect(0);
        assert_eq!(ran_below(&fixture), "/var/tmp");
        fixture.hub.expect_one_slot();
        let left = std::fs::read_dir(fixture.machine.path("tmp")).unwrap();
        assert_eq!(left.count(), 0);
    }
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn without_a_usable_folder_the_cause_names_each_one() {
    let mut fixture = fixture();
    fixture.machine.mount_small("tmp", "64k");
    fixture.machine.remount("var/tmp", "ro");
    fixture.machine.remount("run", "noexec");
    folder(&fixture, "opt", NOBODY, NOBODY, 0o755);
    std::fs::write(fixture.machine.path("srv/made"), "").unwrap();
    fixture.before = fixture.machine.changes();
    let run = fixture.install(&[("TMPDIR", "/srv/gone")]);
    std::fs::write(fixture.machine.path("srv/made"), "").unwrap();
    let cause = "  cause: /srv/gone: there is no such folder; /tmp: No space left on device; \
                 /var/tmp: Read-only file system; \
                 /run: programs cannot run there, for example because it is mounted noexec; \
                 /opt: others than root can replace files in it\n";
    fixture.expect_failed(
        run,
        73,
        &[
            "there is no folder for the download",
            cause,
            "TMPDIR=FOLDER",
        ],
    );
}
