//! A running service, and waiting for a condition.

use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Prepared, Run, TestHost};

/// Longest time to wait, for a busy machine.
const BOUND: Duration = Duration::from_mins(1);

/// `monsys-agent run`, in the background. Dropping it kills it.
pub(crate) struct Service(Option<Child>);

impl Service {
    pub(crate) fn of(prepared: Prepared) -> Self {
        Self(Some(prepared.start()))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.id()).unwrap();
        kill(Pid::from_raw(id), signal).unwrap();
    }

    /// Stops the service with SIGTERM.
    pub(crate) fn stop(self) -> Run {
        self.signal(Signal::SIGTERM);
        self.end()
    }

    /// Waits until the service exits.
    pub(crate) fn end(mut self) -> Run {
        let child = self.0.as_mut().unwrap();
        until("the service to end", || child.try_wait().unwrap().is_some());
        Run::of(self.0.take().unwrap())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Uid and gid of the service's user on hosts that have one.
pub(crate) const SERVICE_USER: u32 = 54_321;

/// Panics in a test that is `#[ignore]` because it needs root, unless root runs it.
#[track_caller]
pub(crate) fn needs_root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test needs root: run it as root with `--include-ignored`"
    );
}

impl TestHost {
    /// Makes a host with the service's user, as packages and `install` do. Needs root.
    #[track_caller]
    pub(crate) fn with_service_user() -> Self {
        needs_root();
        let host = Self::new();
        let passwd = format!(
            "root:x:0:0::/root:/bin/sh\nmonsys:x:{SERVICE_USER}:{SERVICE_USER}::/var/lib/monsys:/sbin/nologin\n"
        );
        host.write_file("etc/passwd", &passwd);
        host.write_file(
            "etc/group",
            &format!("root:x:0:\nmonsys:x:{SERVICE_USER}:\n"),
        );
        // As systemd's RuntimeDirectory= and OpenRC's checkpath do.
        std::fs::create_dir_all(host.path("run/monsys")).unwrap();
        std::os::unix::fs::chown(
            host.path("run/monsys"),
            Some(SERVICE_USER),
            Some(SERVICE_USER),
        )
        .unwrap();
        host
    }

    /// Starts `run` as the service manager does: as the service's user, after the privileged step.
    pub(crate) fn unprivileged_service(&self) -> Service {
        Service::of(self.agent(&["run"]).by_user(SERVICE_USER))
    }

    /// Starts the service on this host with an empty environment.
    pub(crate) fn service(&self) -> Service {
        Service::of(self.agent(&["run"]))
    }
}

/// Polls until `condition` is true.
#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < BOUND, "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
