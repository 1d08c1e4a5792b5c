//! The sensor that the service keeps the rhythm for: one heartbeat of it, and what it reads again.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use reqwest::Url;
use tokio::time::Instant;

use crate::ravenxcope::{Credential, Ravenxcope};
use crate::{report, wire};
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::route::Target;
use agent_core::hub::client::{Client, EXCHANGE};
use agent_core::hub::response::Outcome;
use agent_core::service::{
    Health, HealthFile, HeartbeatFailure, HeartbeatOutcome, Meter, SaveReason, ServiceHost,
};

/// Above this interval a connection is not kept: something on the way would have dropped it.
const KEPT: Duration = Duration::from_mins(1);

/// An enrolled sensor.
pub(crate) struct Sensor<'a> {
    host: Ravenxcope<'a>,
    credential: Credential,
    client: Client,
    url: Url,
    meter: Meter,
    health: Health,
    journal: HealthFile,
    /// Where the backend is, for the address that reaches it; looked up once.
    target: Option<Target>,
    stamp: Stamp,
    must_reload: bool,
    told: Option<ErrorId>,
}

/// What tells that the env file was replaced or edited: inode, size, and time of change.
type Stamp = Option<(u64, u64, i64, i64)>;

impl<'a> Sensor<'a> {
    /// The sensor whose token is on the disk, or in the environment.
    ///
    /// # Errors
    /// [`ErrorId::NotEnrolled`], and what is wrong with its settings.
    pub(crate) fn of_disk(host: Ravenxcope<'a>) -> Result<Self> {
        let credential = host.credential().ok_or_else(|| {
            Error::new(ErrorId::NotEnrolled, "there is no SENSOR_TOKEN any more")
                .about(host.file.path().display())
        })?;
        Self::new(host, credential)
    }

    /// The sensor with this credential, which may be in memory alone.
    ///
    /// # Errors
    /// What is wrong with its settings.
    pub(crate) fn new(host: Ravenxcope<'a>, credential: Credential) -> Result<Self> {
        let id = host.id()?;
        let journal = report::journal(&host);
        let health = journal.load(id).unwrap_or_default();
        let is_kept = credential.interval <= KEPT;
        let mut sensor = Self {
            client: Client::lasting(&host.settings, is_kept)?,
            url: wire::url(&host.settings.hub_url.value, id, "heartbeat"),
            stamp: stamp(&host.target()),
            meter: Meter::default(),
            target: None,
            must_reload: false,
            told: None,
            host,
            credential,
            health,
            journal,
        };
        sensor.take_over();
        Ok(sensor)
    }

    fn take_over(&mut self) {
        let id = self.host.id().unwrap_or_default().to_owned();
        self.health.agent_id = id;
        self.health.interval_secs = self.credential.interval.as_secs();
    }

    /// Reads the files again. What cannot be used is told once, and the service goes on with what it
    /// has.
    fn read_again(&mut self) {
        self.must_reload = false;
        self.stamp = stamp(&self.host.target());
        let read = Ravenxcope::read(self.host.flags, self.host.environment).and_then(Self::of_disk);
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
                self.take_over();
            }
            Err(error) => {
                if self.told.replace(error.id()) != Some(error.id()) {
                    tracing::warn!(
                        "{}: {}; going on as before; hint: {}",
                        error.what(),
                        error.cause(),
                        error.next_step()
                    );
                }
            }
        }
    }

    /// One heartbeat with what was read.
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
                error: self.explained(error.hiding(token.expose_secret())),
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

    /// A refusal in the words that fit a sensor's own token.
    fn explained(&self, error: Error) -> Error {
        if error.id() != ErrorId::Rejected {
            return error;
        }
        let cause = "the backend answered 401 to this sensor's own token: it was replaced by a later enrolment, or revoked";
        Error::new(ErrorId::Rejected, cause)
            .about(&self.url)
            .hint(format!(
                "have a new install token made for sensor {}, put it in as INSTALL_TOKEN, and run: monsys-agent enrol --dialect ravenxcope --force",
                self.health.agent_id
            ))
    }
}

impl ServiceHost for Sensor<'_> {
    async fn heartbeat(&mut self) -> Result<HeartbeatOutcome> {
        if self.must_reload || self.is_stale() {
            self.read_again();
        }
        let mut beat = self.send().await;
        if matches!(&beat, HeartbeatOutcome::Missed(miss) if miss.is_refusal) && self.is_stale() {
            // The token was replaced while the old one was on its way.
            self.read_again();
            beat = self.send().await;
        }
        Ok(beat)
    }

    async fn follow_up(&mut self) {}

    fn interval(&self) -> Duration {
        self.credential.interval
    }

    fn health(&mut self) -> &mut Health {
        &mut self.health
    }

    fn save(&mut self, occasion: SaveReason) {
        self.journal.save(&self.health, occasion);
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
