//! The agent of the heartbeat loop: the files of an enrolled host, and one heartbeat.

mod return_to_hub;

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::on_disk::{OnDisk, Stamp, not_enrolled};
use super::transport::Transport;
use crate::heartbeat_lock::HeartbeatLock;
use crate::hub_clock::{HubClock, Offset};
use crate::recovery::recover_now;
use crate::state::State;
use crate::wire;
use agent_core::clock;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::fingerprint::Fingerprint;
use agent_core::facts::route::Target;
use agent_core::flags::Flags;
use agent_core::hub::response::{self, Outcome};
use agent_core::service::step;
use agent_core::service::vitals::Meter;
use agent_core::service::{Health, HealthFile, SaveReason};
use agent_core::service::{HeartbeatFailure, HeartbeatOutcome, ServiceHost};

/// Longest time that agent.toml may lack its credential: an editor replaces a file in two steps.
const MISSING_CREDENTIAL_GRACE: Duration = Duration::from_secs(10);
/// Interval at which the host registers again: the hub gets the current facts, and pins the key if an
/// operator has unpinned it.
const REGISTER_INTERVAL: Duration = Duration::from_hours(24);

/// The agent of an enrolled host.
pub(crate) struct Agent<'a, T> {
    flags: &'a Flags,
    environment: &'a Environment,
    on_disk: OnDisk<T>,
    meter: Meter,
    clock: HubClock,
    health: Health,
    health_file: HealthFile,
    /// The interval in the last response of the hub to this process.
    interval: Option<Duration>,
    /// The hub has accepted an earlier heartbeat of this process.
    has_sent_heartbeat: bool,
    must_reload: bool,
    gone_since: Option<Instant>,
    register_at: Instant,
    /// Time at which the privileged step is requested, since the hub has forgotten this host.
    return_at: Option<Instant>,
    /// Time at which the privileged step is requested, since the receipt is old.
    renew_at: Option<Instant>,
    /// The last error of the files that was logged.
    logged: Option<ErrorId>,
}

impl<'a, T: Transport> Agent<'a, T> {
    /// Reads an enrolled host.
    ///
    /// # Errors
    /// [`ErrorId::NotEnrolled`], and what is wrong with its files.
    pub(crate) fn load(flags: &'a Flags, environment: &'a Environment) -> Result<Self> {
        let on_disk = OnDisk::<T>::read(flags, environment)?
            .ok_or_else(|| not_enrolled("agent.toml holds no confirmed credential"))?;
        let health_file = HealthFile::of(&on_disk.state_dir, environment);
        let health = health_file
            .load(&on_disk.agent_id.to_string())
            .unwrap_or_default();
        let mut agent = Self {
            flags,
            environment,
            on_disk,
            meter: Meter::default(),
            clock: HubClock::default(),
            health,
            health_file,
            interval: None,
            has_sent_heartbeat: false,
            must_reload: false,
            gone_since: None,
            register_at: Instant::now(),
            return_at: None,
            renew_at: None,
            logged: None,
        };
        agent.plan_renewal();
        agent.reset();
        Ok(agent)
    }

    /// Sets the fields that depend on the files, after they were read.
    fn reset(&mut self) {
        self.must_reload = false;
        self.gone_since = None;
        let agent_id = self.on_disk.agent_id.to_string();
        if self.health.agent_id != agent_id {
            self.health = Health {
                agent_id,
                ..Health::default()
            };
        }
        self.health.interval_secs = self.interval().as_secs();
    }

    /// Reads the files again. A broken file is logged once, and the service continues with the old content.
    fn read_again(&mut self) -> Result<()> {
        match OnDisk::read(self.flags, self.environment) {
            Ok(Some(on_disk)) => {
                let is_recovered = self.logged.take().is_some();
                if is_recovered || on_disk.stamp != self.on_disk.stamp {
                    tracing::info!("read the configuration again");
                }
                self.on_disk = on_disk;
                // The operator may have unpinned the key, and a new hub has none.
                self.register_at = Instant::now();
                self.reset();
            }
            Ok(None) => {
                let since = *self.gone_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= MISSING_CREDENTIAL_GRACE {
                    return Err(not_enrolled(
                        "agent.toml held a credential when the service started, and holds none now",
                    ));
                }
            }
            // A copy of another machine does not continue as that machine.
            Err(error) if matches!(error.id(), ErrorId::NotEnrolled | ErrorId::StepNeeded) => {
                return Err(error);
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
                // The files are not read again before they change.
                self.on_disk.stamp =
                    Stamp::of(self.flags, self.environment, &self.on_disk.state_dir);
                self.must_reload = false;
                self.gone_since = None;
            }
        }
        Ok(())
    }

    /// Requests the privileged step, which completes an interrupted rotation. Sends nothing while another
    /// process rotates the key.
    fn request_step(&mut self) -> Result<HeartbeatOutcome> {
        let Some(heartbeat_lock) = HeartbeatLock::share(&self.on_disk.state_dir)? else {
            return Ok(HeartbeatOutcome::NotSent);
        };
        drop(heartbeat_lock);
        // The rotation may have been completed since the files were read.
        self.read_again()?;
        if self.gone_since.is_some() || !self.on_disk.has_next_key {
            return Ok(HeartbeatOutcome::NotSent);
        }
        Err(step::needed("a rotation of the key was interrupted"))
    }

    /// Shares the heartbeat lock, for requests signed with the key on the disk. Returns `None` while a run
    /// changes key or credential, and when the files on the disk cannot be used as they are.
    fn share(&mut self) -> Result<Option<HeartbeatLock>> {
        let state_dir = self.on_disk.state_dir.clone();
        let Some(heartbeat_lock) = HeartbeatLock::share(&state_dir)? else {
            return Ok(None);
        };
        // A rotation may have ended between the reading of the files and the lock.
        if self.is_stale() {
            self.read_again()?;
        }
        let is_usable = self.gone_since.is_none()
            && !self.on_disk.has_next_key
            && self.on_disk.state_dir == state_dir;
        Ok(is_usable.then_some(heartbeat_lock))
    }

    /// Returns whether the credential of this agent is no longer on the disk.
    fn is_gone(&self) -> bool {
        self.gone_since.is_some()
            || (self.is_stale()
                && matches!(OnDisk::<T>::read(self.flags, self.environment), Ok(None)))
    }

    /// Returns whether the machine shows other ids than when the files were read, as after a migration. The
    /// product UUID counts only for root.
    fn is_other_machine(&self) -> bool {
        Fingerprint::of(self.environment).is_ok_and(|now| now != self.on_disk.seen)
    }

    /// Sends one heartbeat with the files that were read.
    async fn send(&mut self) -> HeartbeatOutcome {
        let OnDisk {
            settings,
            agent_id,
            token,
            identity,
            transport,
            target,
            ..
        } = &mut self.on_disk;
        if target.is_none() {
            *target = Some(Target::resolve(settings).await);
        }
        let target = target.as_ref().unwrap_or(const { &Target::UNKNOWN });
        let base = &settings.hub_url.value;
        let mut attempt = async |offset: Offset| {
            let captured_at = offset.at(self.environment.now());
            let vitals = self.meter.measure(captured_at, self.environment, target);
            let request = wire::heartbeat(base, *agent_id, token, &vitals, identity);
            (
                request.url.to_string(),
                transport.send(request, self.environment).await,
            )
        };
        let (url, mut sent) = attempt(self.clock.offset()).await;
        if let Ok(reply) = &sent
            && self.clock.learn(reply, self.environment.now())
        {
            (_, sent) = attempt(self.clock.offset()).await;
        }
        match response::classify_own_empty(&url, sent) {
            Outcome::Done(()) => HeartbeatOutcome::Accepted,
            Outcome::Stop(error) => HeartbeatOutcome::Missed(HeartbeatFailure {
                error: explain(error, &url, &self.on_disk.state_dir),
                retry_after: None,
                is_refusal: true,
            }),
            Outcome::Wait { error, retry_after } => HeartbeatOutcome::Missed(HeartbeatFailure {
                error,
                retry_after,
                is_refusal: false,
            }),
        }
    }

    /// Registers again: sends the current facts, and the hub pins the key if no key is pinned.
    async fn register(&mut self) {
        let OnDisk {
            settings,
            token,
            identity,
            registration,
            transport,
            target,
            ..
        } = &self.on_disk;
        let target = target.as_ref().unwrap_or(const { &Target::UNKNOWN });
        let request = registration.request(settings, self.environment, target, token, identity);
        let url = request.url.to_string();
        let sent = transport.send(request, self.environment).await;
        match response::classify_own(&url, sent, wire::registered) {
            Outcome::Done(admission) => {
                let seconds = admission.heartbeat_interval_secs;
                self.interval = Some(Duration::from_secs(seconds));
                self.health.interval_secs = seconds;
                self.register_at = clock::after(Instant::now(), REGISTER_INTERVAL);
            }
            Outcome::Wait { error, .. } => {
                tracing::debug!(
                    "the registration waits for the next heartbeat: {}",
                    error.cause()
                );
            }
            Outcome::Stop(error) => {
                tracing::warn!(
                    "the hub accepts heartbeats, and rejects the registration of this host's facts and key: {}; cause: {}; hint: {}",
                    error.what(),
                    error.cause(),
                    error.next_step()
                );
                self.register_at = clock::after(Instant::now(), REGISTER_INTERVAL);
            }
        }
    }
}

impl<T: Transport> ServiceHost for Agent<'_, T> {
    async fn heartbeat(&mut self) -> Result<HeartbeatOutcome> {
        if self.must_reload || self.is_stale() || self.is_other_machine() {
            self.read_again()?;
        }
        if self.gone_since.is_some() {
            return Ok(HeartbeatOutcome::NotSent);
        }
        if self.on_disk.has_next_key && !step::owns(&self.on_disk.state_dir) {
            return self.request_step();
        }
        if self.on_disk.has_next_key {
            match Box::pin(recover_now(self.flags, self.environment)).await {
                Ok(()) => self.read_again()?,
                Err(error) if error.id() == ErrorId::LockBusy => {
                    return Ok(HeartbeatOutcome::NotSent);
                }
                Err(error) => {
                    return Ok(HeartbeatOutcome::Missed(HeartbeatFailure {
                        is_refusal: error.id() != ErrorId::Unreachable,
                        error,
                        retry_after: None,
                    }));
                }
            }
        }
        if std::mem::take(&mut self.on_disk.is_incomplete)
            && step::owns(&self.on_disk.state_dir)
            && let Err(error) = Box::pin(recover_now(self.flags, self.environment)).await
        {
            // The heartbeat is sent nevertheless.
            tracing::debug!("{}: {}", error.what(), error.cause());
        }
        let Some(heartbeat_lock) = self.share()? else {
            return Ok(HeartbeatOutcome::NotSent);
        };
        let mut outcome = self.send().await;
        if matches!(&outcome, HeartbeatOutcome::Missed(miss) if miss.is_refusal) && self.is_stale()
        {
            // The credential was replaced during the request.
            self.read_again()?;
            if self.gone_since.is_some() {
                return Ok(HeartbeatOutcome::NotSent);
            }
            outcome = self.send().await;
        }
        drop(heartbeat_lock);
        match self.request_return(&outcome) {
            // Where one user runs everything, there is no step of root's.
            Err(_) if step::owns(&self.on_disk.state_dir) => self.return_to_hub().await?,
            requested => requested?,
        }
        Ok(outcome)
    }

    fn due_in(&self) -> Option<Duration> {
        Some(self.return_at?.saturating_duration_since(Instant::now()))
    }

    async fn follow_up(&mut self) {
        // There is no registration after the first heartbeat of a process. So an operator who has unpinned
        // the key has one interval for `rotate-key`, before a service that was just started pins the old key.
        if !std::mem::replace(&mut self.has_sent_heartbeat, true)
            || Instant::now() < self.register_at
        {
            return;
        }
        // The next heartbeat reads changed files, and proves the credential first.
        if self.is_stale() {
            return;
        }
        if let Ok(Some(heartbeat_lock)) = self.share() {
            self.register().await;
            drop(heartbeat_lock);
        }
    }

    fn interval(&self) -> Duration {
        self.interval.unwrap_or(self.on_disk.interval)
    }

    fn health(&mut self) -> &mut Health {
        &mut self.health
    }

    fn save(&mut self, reason: SaveReason) {
        if self.gone_since.is_none() {
            self.health_file.save(&self.health, reason);
        }
        // `unenrol` removes the credential first, and this file after it. So the file of an unenrolled host
        // does not stay, whichever process writes last.
        if self.is_gone() {
            self.health_file.remove();
        }
    }

    fn is_stale(&self) -> bool {
        self.gone_since.is_some()
            || self.on_disk.stamp
                != Stamp::of(self.flags, self.environment, &self.on_disk.state_dir)
    }

    fn reload(&mut self) {
        self.must_reload = true;
    }

    fn describe(&self) -> String {
        format!(
            "agent {} of {}",
            self.on_disk.agent_id, self.on_disk.settings.hub_url.value
        )
    }
}

/// Rewords a rejection of this host's own credential.
fn explain(error: Error, url: &str, state_dir: &Path) -> Error {
    let interrupted = || State::load(state_dir).ok()??.interrupted();
    match error.id() {
        ErrorId::Forgotten => {
            let Some((cause, hint)) = interrupted() else {
                return error;
            };
            let cause = format!("{}: {cause}", error.cause());
            Error::new(ErrorId::Forgotten, cause).about(url).hint(hint)
        }
        ErrorId::OtherKey => error.hint(
            "if you replaced the key: an operator unpins the old key (POST /api/v1/agents/ID/rotate-signing-key), then: monsys-agent rotate-key; if not, somebody else has this host's token: rotate the token too",
        ),
        _ => error,
    }
}
