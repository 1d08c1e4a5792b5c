//! Notifications to systemd (`sd_notify(3)`): one datagram each, to the socket that it names.
//!
//! `sd-notify` has the words of the protocol. This file sends them, because the crate's own `notify` reads
//! the environment by itself, connects to a file where the name begins with `@` (an abstract socket), and
//! waits while the service manager does not read.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::Instant;

use crate::clock;
use crate::environment::Environment;

/// The way to the service manager, if there is one.
#[derive(Debug, Default)]
pub(super) struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// How often it wants to hear, halved as it asks for.
    watchdog: Option<Duration>,
    last_sign: Option<Instant>,
}

impl Notify {
    /// As the environment says: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    pub(super) fn of(environment: &Environment) -> Self {
        let to = environment.env("NOTIFY_SOCKET").and_then(|name| {
            let address = address(name.as_bytes())?;
            let socket = UnixDatagram::unbound().ok()?;
            // A manager that does not read must not hold up the service.
            socket.set_nonblocking(true).ok()?;
            Some((socket, address))
        });
        let number = |name| environment.env(name)?.to_str()?.parse::<u64>().ok();
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        Self {
            watchdog: number("WATCHDOG_USEC")
                .filter(|time| *time > 0 && is_ours && to.is_some())
                .map(|time| Duration::from_micros(time) / 2),
            to,
            last_sign: None,
        }
    }

    /// Reports the status, and that the service lives.
    pub(super) fn status(&mut self, status: &str) {
        self.send(&[NotifyState::Status(&one_line(status))]);
    }

    /// The service is up.
    pub(super) fn ready(&mut self, status: &str) {
        self.send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// The configuration is read again; [`Notify::ready`] ends it.
    pub(super) fn reloading(&mut self) {
        let now = NotifyState::monotonic_usec_now().unwrap_or(NotifyState::MonotonicUsec(0));
        self.send(&[NotifyState::Reloading, now]);
    }

    /// The service ends.
    pub(super) fn stopping(&mut self) {
        self.send(&[NotifyState::Stopping]);
    }

    /// A sign of life for the watchdog.
    pub(super) fn alive(&mut self) {
        if self.watchdog.is_some() {
            self.send(&[]);
        }
    }

    /// The same, if it is time for it.
    pub(super) fn alive_if_due(&mut self) {
        if self.due().is_some_and(|due| due <= Instant::now()) {
            self.alive();
        }
    }

    /// When the watchdog needs its next sign of life.
    pub(super) fn due(&self) -> Option<Instant> {
        let watchdog = self.watchdog?;
        Some(
            self.last_sign
                .map_or_else(Instant::now, |last| clock::after(last, watchdog)),
        )
    }

    /// Each datagram is a sign of life, so that the watchdog seldom needs one of its own.
    fn send(&mut self, states: &[NotifyState]) {
        let Some((socket, address)) = &self.to else {
            return;
        };
        let mut lines = Vec::with_capacity(states.len() + 1);
        if self.watchdog.is_some() {
            self.last_sign = Some(Instant::now());
            lines.push(NotifyState::Watchdog.to_string());
        }
        lines.extend(states.iter().map(ToString::to_string));
        if let Err(error) = socket.send_to_addr(lines.join("\n").as_bytes(), address) {
            tracing::debug!("the service manager was not notified: {error}");
        }
    }
}

/// A line break would begin an assignment of its own.
fn one_line(text: &str) -> String {
    text.replace(crate::escape::is_hidden, " ")
}

/// A path, or behind an `@` a name without a file (unix(7), abstract).
fn address(name: &[u8]) -> Option<SocketAddr> {
    match name {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
        [b'/', ..] => {
            SocketAddr::from_pathname(std::path::Path::new(std::ffi::OsStr::from_bytes(name))).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(socket: &str, more: &[(&str, &str)]) -> Environment {
        let mut variables = vec![("NOTIFY_SOCKET", socket)];
        variables.extend(more);
        Environment::real([]).with_variables(variables)
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[tokio::test]
    async fn speaks_to_a_path_and_to_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Notify::of(&environment(path.to_str().unwrap(), &[])).ready("enrolled");
        assert_eq!(heard(&socket), "READY=1\nSTATUS=enrolled");
        Notify::of(&environment(path.to_str().unwrap(), &[])).status("a\nMAINPID=1");
        assert_eq!(heard(&socket), "STATUS=a MAINPID=1");

        let name = format!("monsys-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let mut notify = Notify::of(&environment(&format!("@{name}"), &[]));
        notify.stopping();
        assert_eq!(heard(&socket), "STOPPING=1");
        assert!(notify.due().is_none(), "no watchdog was asked for");
        notify.reloading();
        assert!(heard(&socket).starts_with("RELOADING=1\nMONOTONIC_USEC="));
    }

    #[tokio::test(start_paused = true)]
    async fn feeds_the_watchdog_at_half_its_time_and_with_whatever_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let mut notify = Notify::of(&environment(
            path.to_str().unwrap(),
            &[("WATCHDOG_USEC", "60000000")],
        ));
        notify.status("fine");
        assert_eq!(heard(&socket), "WATCHDOG=1\nSTATUS=fine");
        let half = Duration::from_secs(30);
        assert_eq!(notify.due().unwrap() - Instant::now(), half);
        let other = [("WATCHDOG_USEC", "60000000"), ("WATCHDOG_PID", "1")];
        assert!(
            Notify::of(&environment(path.to_str().unwrap(), &other))
                .due()
                .is_none()
        );
    }

    #[test]
    fn without_a_manager_nothing_is_said() {
        let mut notify = Notify::of(&Environment::real([]).with_variables([("A", "b")]));
        notify.ready("x");
        for odd in ["vsock:2:1234", "relative", "@"] {
            Notify::of(&environment(odd, &[])).ready("x");
        }
    }
}
