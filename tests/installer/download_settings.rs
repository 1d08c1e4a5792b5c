//! Settings of curl and wget on the machine, and which of them apply to the downloads of install.sh.

use crate::fixture::Fixture;
use crate::script::{CURLRC, WGETRC};

const HOME: (&str, &str) = ("HOME", "/root");

#[test]
#[ignore = "needs root: mounts an overlay"]
fn the_settings_in_the_home_of_root_do_not_apply() {
    for gone in ["wget", "curl"] {
        let fixture = Fixture::new();
        fixture.machine.remove_program(gone);
        fixture.machine.write_file("root/.curlrc", CURLRC);
        fixture.machine.write_file("root/.wgetrc", WGETRC);
        println!("without {gone}");
        fixture.install(&[HOME]).expect(0);
        fixture.hub.expect_one_slot();
    }
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn the_settings_of_wget_in_etc_apply() {
    let mut fixture = Fixture::new();
    fixture.machine.remove_program("curl");
    fixture.machine.write_file("etc/wgetrc", WGETRC);
    fixture.before = fixture.machine.changes();
    fixture.expect_failure(&[HOME], 69, &["could not be downloaded"]);
}
