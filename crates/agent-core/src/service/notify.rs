//! Notifications to systemd (`sd_notify(3)`): one datagram each, to the socket of `NOTIFY_SOCKET`.
//!
//! The crate `sd-notify` formats the messages. This file sends them, because `notify` of that crate reads the
//! environment itself, treats a name with `@` (an abstract socket) as a file, and blocks while the service
//! manager does not read.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::Instant;

use crate::clock;
use crate::environment::Environment;

/// The connection to the service manager, if there is one.
#[derive(Debug, Default)]
pub(super) struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// Half of the watchdog's time-out, as `sd_watchdog_enabled(3)` recommends.
    watchdog: Option<Duration>,
    last_sent: Option<Instant>,
}

impl Notify {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub(super) fn of(environment: &Environment) -> Self {
        let to = environment.env("NOTIFY_SOCKET").and_then(|name| {
            let address = address(name.as_bytes())?;
            let socket = UnixDatagram::unbound().ok()?;
            // A manager that does not read must not block the service.
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
            last_sent: None,
        }
    }

    /// Reports the status.
    pub(super) fn status(&mut self, status: &str) {
        self.send(&[NotifyState::Status(&one_line(status))]);
    }

    /// Reports that the service has started.
    pub(super) fn ready(&mut self, status: &str) {
        self.send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// Reports that the service reads its configuration again. [`Notify::ready`] reports the end of that.
    pub(super) fn reloading(&mut self) {
        let now = NotifyState::monotonic_usec_now().unwrap_or(NotifyState::MonotonicUsec(0));
        self.send(&[NotifyState::Reloading, now]);
    }

    /// Reports that the service stops.
    pub(super) fn stopping(&mut self) {
        self.send(&[NotifyState::Stopping]);
    }

    /// Notifies the watchdog.
    pub(super) fn alive(&mut self) {
        if self.watchdog.is_some() {
            self.send(&[]);
        }
    }

    /// Notifies the watchdog, if the time for it has come.
    pub(super) fn alive_if_due(&mut self) {
        if self.due().is_some_and(|due| due <= Instant::now()) {
            self.alive();
        }
    }

    /// Returns the time of the next notification of the watchdog.
    pub(super) fn due(&self) -> Option<Instant> {
        let watchdog = self.watchdog?;
        Some(
            self.last_sent
                .map_or_else(Instant::now, |last| clock::after(last, watchdog)),
        )
    }

    /// Sends a datagram. Each one also notifies the watchdog, which then seldom needs a separate one.
    fn send(&mut self, states: &[NotifyState]) {
        let Some((socket, address)) = &self.to else {
            return;
        };
        let mut lines = Vec::with_capacity(states.len() + 1);
        if self.watchdog.is_some() {
            self.last_sent = Some(Instant::now());
            lines.push(NotifyState::Watchdog.to_string());
        }
        lines.extend(states.iter().map(ToString::to_string));
        if let Err(error) = socket.send_to_addr(lines.join("\n").as_bytes(), address) {
            tracing::debug!("the service manager was not notified: {error}");
        }
    }
}

/// Replaces hidden characters by spaces: a line break would begin another assignment of the protocol.
fn one_line(text: &str) -> String {
    text.replace(crate::escape::is_hidden, " ")
}

/// Parses a socket address: a path, or `@` with the name of an abstract socket (unix(7)).
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

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[tokio::test]
    async fn sends_to_a_path_and_to_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Notify::of(&environment(path.to_str().unwrap(), &[])).ready("enrolled");
        assert_eq!(received(&socket), "READY=1\nSTATUS=enrolled");
        Notify::of(&environment(path.to_str().unwrap(), &[])).status("a\nMAINPID=1");
        assert_eq!(received(&socket), "STATUS=a MAINPID=1");

        let name = format!("monsys-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let mut notify = Notify::of(&environment(&format!("@{name}"), &[]));
        notify.stopping();
        assert_eq!(received(&socket), "STOPPING=1");
        assert!(notify.due().is_none(), "no watchdog was asked for");
        notify.reloading();
        assert!(received(&socket).starts_with("RELOADING=1\nMONOTONIC_USEC="));
    }

    #[tokio::test(start_paused = true)]
    async fn notifies_the_watchdog_at_half_its_time_and_with_each_datagram() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let mut notify = Notify::of(&environment(
            path.to_str().unwrap(),
            &[("WATCHDOG_USEC", "60000000")],
        ));
        notify.status("fine");
        assert_eq!(received(&socket), "WATCHDOG=1\nSTATUS=fine");
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
    fn without_a_manager_nothing_is_sent() {
        let mut notify = Notify::of(&Environment::real([]).with_variables([("A", "b")]));
        notify.ready("x");
        for odd in ["vsock:2:1234", "relative", "@"] {
            Notify::of(&environment(odd, &[])).ready("x");
        }
    }
}
