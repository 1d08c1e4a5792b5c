//! A lock of dpkg, as unattended-upgrades has it at the first boot of an image.

use serde_json::json;

use super::{scene, settings, with};
use crate::disk::Disk;
use crate::lan::Lan;
use crate::one_liner::expect_in_service;

/// Takes dpkg's lock, reports that, and stays.
const HOLDER: &str = r#"systemd-run --unit=holder --service-type=notify /usr/bin/python3 -c '
import fcntl, os, signal, socket
lock = open("/var/lib/dpkg/lock-frontend", "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
manager.connect(os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1))
manager.send(b"READY=1")
signal.pause()'"#;

/// Makes the lock end after the first installation that failed.
const RELEASE: &str = r#"mv /usr/bin/dpkg /usr/bin/dpkg.real
cat >/usr/bin/dpkg <<'END'
#!/bin/sh
/usr/bin/dpkg.real "$@" && exit
code=$?
case " $* " in *" -i "*) systemctl stop holder ;; esac
exit $code
END
chmod 755 /usr/bin/dpkg"#;

#[test]
fn the_role_waits_for_the_lock_of_dpkg() {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = hub.token();
    let disk = Disk::debian("bookworm", "web-1");
    let (host, controller) = scene(&lan, &disk, &[]);
    let package = concat!("monsys-agent_", env!("CARGO_PKG_VERSION"), "-1_amd64.deb");
    let mut settings = with(settings(&hub), "monsys_agent_method", "package");
    settings["monsys_agent_package"] = json!(crate::prepared::dist().join(package));
    host.run_ok(HOLDER);

    let short = with(settings.clone(), "monsys_agent_lock_timeout", 5);
    controller
        .role(&token, &short, &[])
        .expect_failure(&["was locked by another process"]);
    assert_eq!(hub.agents().len(), 0);

    host.run_ok(RELEASE);
    let played = controller.role(&token, &settings, &[]).expect_success();
    assert!(played.output.contains("RETRYING"), "{}", played.output);
    expect_in_service(&hub, &host);
    hub.expect_one_slot();
}
