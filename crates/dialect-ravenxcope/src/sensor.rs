//! The sensor of the heartbeat loop: one heartbeat, and the files that it reads again.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use reqwest::Url;
use tokio::time::Instant;

use crate::ravenxcope::{Credential, Ravenxcope};
use crate::{status, wire};
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::route::Target;
use agent_core::hub::client::{Client, EXCHANGE};
use agent_core::hub::response::Outcome;
use agent_core::service::{
    Health, HealthFile, HeartbeatFailure, HeartbeatOutcome, Meter, SaveReason, ServiceHost,
};

/// Longest interval at which the connection stays open between heartbeats. A proxy or a firewall on the way
/// drops a connection that is idle for longer.
const MAX_IDLE: Duration = Duration::from_mins(1);

/// An enrolled sensor.
pub(crate) struct Sensor<'a> {
    host: Ravenxcope<'a>,
    credential: Credential,
    client: Client,
    url: Url,
    meter: Meter,
    health: Health,
    health_file: HealthFile,
    /// The backend's address, for the facts of the route to it; looked up once.
    target: Option<Target>,
    stamp: Stamp,
    must_reload: bool,
    /// The last error of the files that was logged.
    logged: Option<ErrorId>,
}

/// The version of the env file: inode, size, and time of change in seconds and nanoseconds.
type Stamp = Option<(u64, u64, i64, i64)>;

impl<'a> Sensor<'a> {
    /// Returns the sensor whose token is on the disk, or in the environment.
    ///
    /// # Errors
    /// [`ErrorId::NotEnrolled`], [`ErrorId::OtherHub`], and wrong settings.
    pub(crate) fn from_disk(host: Ravenxcope<'a>) -> Result<Self> {
        host.refuse_other_backend()?;
        let credential = host.credential().ok_or_else(|| {
            Error::new(ErrorId::NotEnrolled, "SENSOR_TOKEN is no longer set")
                .about(host.file.path().display())
        })?;
        Self::new(host, credential)
    }

    /// Returns the sensor with this credential, which may be only in memory.
    ///
    /// # Errors
    /// Wrong settings.
    pub(crate) fn new(host: Ravenxcope<'a>, credential: Credential) -> Result<Self> {
        let id = host.id()?;
        let health_file = status::health_file(&host);
        let health = health_file.load(id).unwrap_or_default();
        let keeps_connection = credential.interval <= MAX_IDLE;
        let mut sensor = Self {
            client: Client::lasting(&host.settings, keeps_connection)?,
            url: wire::url(&host.settings.hub_url.value, id, "heartbeat"),
            stamp: stamp(&host.target()),
            meter: Meter::default(),
            target: None,
            must_reload: false,
            logged: None,
            host,
            credential,
            health,
            health_file,
        };
        sensor.reset();
        Ok(sensor)
    }

    /// Sets the fields that depend on the files, after they were read.
    fn reset(&mut self) {
        let id = self.host.id().unwrap_or_default().to_owned();
        self.health.agent_id = id;
        self.health.interval_secs = self.credential.interval.as_secs();
    }

    /// Reads the files again. A file that cannot be used is logged once, and the service continues with the
    /// old content.
    fn read_again(&mut self) {
        self.must_reload = false;
        self.stamp = stamp(&self.host.target());
        let read =
            Ravenxcope::read(self.host.flags, self.host.environment).and_then(Self::from_disk);
        match read {
            Ok(other) => {
                tracing::info!("read the configuration again");
                let (health, meter) = (
                    std::mem::take(&mut self.health),
                    std::mem::take(&mut self.meter),
                );
                let is_same = health.agent_id == other.health.agent_id;
                *self = Self { meter, ..other };
                if is_same {
                    self.health = health;
                }
                self.reset();
            }
            Err(error) => {
                if self.logged.replace(error.id()) != Some(error.id()) {
                    tracing::warn!(
                        "{}: {}; continuing with the configuration that was read before; hint: {}",
                        error.what(),
                        error.cause(),
                        error.next_step()
                    );
                }
            }
        }
    }

    /// Sends one heartbeat with the files that were read.
    async fn send(&mut self) -> HeartbeatOutcome {
        let environment = self.host.environment;
        if self.target.is_none() {
            self.target = Some(Target::resolve(&self.host.settings).await);
        }
        let target = self.target.as_ref().unwrap_or(const { &Target::UNKNOWN });
        let vitals = self.meter.measure(environment.now(), environment, target);
        let token = &self.credential.token;
        let request = wire::heartbeat(self.url.clone(), token, &vitals);
        let sent = self
            .client
            .send(request, environment, Instant::now() + EXCHANGE)
            .await;
        match wire::classify(self.url.as_str(), sent, |_| Ok(())) {
            Outcome::Done(()) => HeartbeatOutcome::Accepted,
            Outcome::Stop(error) => HeartbeatOutcome::Missed(HeartbeatFailure {
                error: self.explain(error.hiding(token.expose_secret())),
                retry_after: None,
                is_refusal: true,
            }),
            Outcome::Wait { error, retry_after } => HeartbeatOutcome::Missed(HeartbeatFailure {
                error: error.hiding(token.expose_secret()),
                retry_after,
                is_refusal: false,
            }),
        }
    }

    /// Asks the backend by one heartbeat whether it accepts the sensor's token.
    ///
    /// # Errors
    /// The backend's rejection, and a backend that does not answer.
    pub(crate) async fn ask(&mut self) -> Result<()> {
        match self.send().await {
            HeartbeatOutcome::Missed(miss) => Err(miss.error),
            HeartbeatOutcome::Accepted | HeartbeatOutcome::NotSent => Ok(()),
        }
    }

    /// Rewords a rejection of the sensor's own token.
    fn explain(&self, error: Error) -> Error {
        if error.id() != ErrorId::Rejected {
            return error;
        }
        let cause = "the backend answered 401 to this sensor's own token: it was replaced by a later enrolment, or revoked";
        Error::new(ErrorId::Rejected, cause)
            .about(&self.url)
            .hint(format!(
                "have an operator of the backend make a new install token for sensor {}, set it as INSTALL_TOKEN, and run: monsys-agent enrol --dialect ravenxcope --force",
                self.health.agent_id
            ))
    }
}

impl ServiceHost for Sensor<'_> {
    async fn heartbeat(&mut self) -> Result<HeartbeatOutcome> {
        if self.must_reload || self.is_stale() {
            self.read_again();
        }
        let mut outcome = self.send().await;
        if matches!(&outcome, HeartbeatOutcome::Missed(miss) if miss.is_refusal) && self.is_stale()
        {
            // The token was replaced during the request.
            self.read_again();
            outcome = self.send().await;
        }
        Ok(outcome)
    }

    async fn follow_up(&mut self) {}

    fn interval(&self) -> Duration {
        self.credential.interval
    }

    fn health(&mut self) -> &mut Health {
        &mut self.health
    }

    fn save(&mut self, reason: SaveReason) {
        self.health_file.save(&self.health, reason);
    }

    fn is_stale(&self) -> bool {
        self.stamp != stamp(&self.host.target())
    }

    fn reload(&mut self) {
        self.must_reload = true;
    }

    fn describe(&self) -> String {
        format!(
            "sensor {} of {}",
            self.health.agent_id, self.host.settings.hub_url.value
        )
    }
}

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((
        metadata.ino(),
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec(),
    ))
}
