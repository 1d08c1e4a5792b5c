//! A running service, and waiting for what it does.

use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Prepared, Run, TestHost};

/// Longer than anything here takes on a busy machine.
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

    /// Stops it in good order.
    pub(crate) fn stop(self) -> Run {
        self.signal(Signal::SIGTERM);
        self.end()
    }

    /// Waits until it ends.
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

/// Number of the service's user and group on hosts that have one.
pub(crate) const SERVICE_USER: u32 = 54_321;

/// Fails a test that is `#[ignore]` for the need of root, unless root runs it.
#[track_caller]
pub(crate) fn needs_root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test needs root: run it as root with `--include-ignored`"
    );
}

impl TestHost {
    /// A host on which packages or `install` have made the service's user. Takes root.
    #[track_caller]
    pub(crate) fn with_service_user() -> Self {
        needs_root();
        let host = Self::new();
        let passwd = format!(
            "root:x:0:0::/root:/bin/sh\nmonsys:x:{SERVICE_USER}:{SERVICE_USER}::/var/lib/monsys:/sbin/nologin\n"
        );
        host.lay("etc/passwd", &passwd);
        host.lay(
            "etc/group",
            &format!("root:x:0:\nmonsys:x:{SERVICE_USER}:\n"),
        );
        // What systemd's RuntimeDirectory= and OpenRC's checkpath make.
        std::fs::create_dir_all(host.path("run/monsys")).unwrap();
        std::os::unix::fs::chown(
            host.path("run/monsys"),
            Some(SERVICE_USER),
            Some(SERVICE_USER),
        )
        .unwrap();
        host
    }

    /// `run` as the service manager starts it: as the service's user, after the privileged step.
    pub(crate) fn unprivileged_service(&self) -> Service {
        Service::of(self.agent(&["run"]).by_user(SERVICE_USER))
    }

    /// The service on this host, with nothing in its environment.
    pub(crate) fn service(&self) -> Service {
        Service::of(self.agent(&["run"]))
    }
}

/// Polls until `condition` holds.
#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < BOUND, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
