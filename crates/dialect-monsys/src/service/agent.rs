//! The host that the rhythm is kept for: what it has on its disk, and one heartbeat of it.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::hub_clock::{HubClock, Offset};
use super::on_disk::{OnDisk, Stamp, not_enrolled};
use super::transport::Wire;
use crate::heartbeat_lock::HeartbeatLock;
use crate::recovery::recover_now;
use crate::state::State;
use crate::wire as hub;
use agent_core::clock;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::route::Target;
use agent_core::flags::Flags;
use agent_core::hub::response::{self, Outcome};
use agent_core::service::step;
use agent_core::service::vitals::Meter;
use agent_core::service::{Health, HealthFile, SaveReason};
use agent_core::service::{HeartbeatFailure, HeartbeatOutcome, ServiceHost};

/// How long agent.toml may lack its credential: an editor replaces a file in two steps.
const GRACE: Duration = Duration::from_secs(10);
/// How often the facts are told anew, and a key that was unpinned is pinned again.
const REGISTER: Duration = Duration::from_hours(24);

/// An enrolled host.
pub(crate) struct Agent<'a, W> {
    flags: &'a Flags,
    environment: &'a Environment,
    on_disk: OnDisk<W>,
    meter: Meter,
    clock: HubClock,
    health: Health,
    journal: HealthFile,
    /// The interval that the hub has said to this very run.
    interval: Option<Duration>,
    /// The hub has accepted a heartbeat of this run before the present one.
    has_beaten: bool,
    must_reload: bool,
    gone_since: Option<Instant>,
    register_at: Instant,
    told: Option<ErrorId>,
}

impl<'a, W: Wire> Agent<'a, W> {
    /// Reads an enrolled host.
    ///
    /// # Errors
    /// [`ErrorId::NotEnrolled`], and what is wrong with its files.
    pub(crate) fn load(flags: &'a Flags, environment: &'a Environment) -> Result<Self> {
        let on_disk = OnDisk::<W>::read(flags, environment)?
            .ok_or_else(|| not_enrolled("agent.toml holds no confirmed credential"))?;
        let journal = HealthFile::of(&on_disk.state_dir, environment);
        let health = journal
            .load(&on_disk.agent_id.to_string())
            .unwrap_or_default();
        let mut agent = Self {
            flags,
            environment,
            on_disk,
            meter: Meter::default(),
            clock: HubClock::default(),
            health,
            journal,
            interval: None,
            has_beaten: false,
            must_reload: false,
            gone_since: None,
            register_at: Instant::now(),
            told: None,
        };
        agent.take_over();
        Ok(agent)
    }

    /// What follows from the files that were just read.
    fn take_over(&mut self) {
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

    /// Reads the files again. A broken one is told once, and the service goes on with what it has.
    fn read_again(&mut self) -> Result<()> {
        match OnDisk::read(self.flags, self.environment) {
            Ok(Some(on_disk)) => {
                let is_mended = self.told.take().is_some();
                if is_mended || on_disk.stamp != self.on_disk.stamp {
                    tracing::info!("read the configuration again");
                }
                self.on_disk = on_disk;
                // The operator may have unpinned the key, and a new hub has none.
                self.register_at = Instant::now();
                self.take_over();
            }
            Ok(None) => {
                let since = *self.gone_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= GRACE {
                    return Err(not_enrolled(
                        "agent.toml held a credential when the service started, and holds none now",
                    ));
                }
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
                // Not again before it is changed.
                self.on_disk.stamp =
                    Stamp::of(self.flags, self.environment, &self.on_disk.state_dir);
                self.must_reload = false;
                self.gone_since = None;
            }
        }
        Ok(())
    }

    /// Has the privileged step end a rotation that was interrupted. While somebody is at it, nothing
    /// is sent.
    fn ask_for_step(&mut self) -> Result<HeartbeatOutcome> {
        let Some(quiet) = HeartbeatLock::share(&self.on_disk.state_dir)? else {
            return Ok(HeartbeatOutcome::NotSent);
        };
        drop(quiet);
        // It may have ended in the moment before.
        self.read_again()?;
        if self.gone_since.is_some() || !self.on_disk.is_unsettled {
            return Ok(HeartbeatOutcome::NotSent);
        }
        Err(step::needed("a rotation of the key was interrupted"))
    }

    /// Shares the heartbeat lock, for requests signed with the key and credential that are on the disk
    /// while it is held. `None` while they change hands, or when what was on the disk just now takes
    /// more than reading it.
    fn share(&mut self) -> Result<Option<HeartbeatLock>> {
        let state_dir = self.on_disk.state_dir.clone();
        let Some(quiet) = HeartbeatLock::share(&state_dir)? else {
            return Ok(None);
        };
        // A rotation may have ended between the look at the files and the lock.
        if self.is_stale() {
            self.read_again()?;
        }
        let is_usable = self.gone_since.is_none()
            && !self.on_disk.is_unsettled
            && self.on_disk.state_dir == state_dir;
        Ok(is_usable.then_some(quiet))
    }

    /// Whether this host is not this agent any more, by what is on the disk.
    fn is_gone(&self) -> bool {
        self.gone_since.is_some()
            || (self.is_stale()
                && matches!(OnDisk::<W>::read(self.flags, self.environment), Ok(None)))
    }

    /// One heartbeat with what was read.
    async fn send(&mut self) -> HeartbeatOutcome {
        let OnDisk {
            settings,
            agent_id,
            token,
            identity,
            wire,
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
            let request = hub::heartbeat(base, *agent_id, token, &vitals, identity);
            (
                request.url.to_string(),
                wire.send(request, self.environment).await,
            )
        };
        let (url, mut sent) = attempt(self.clock.offset()).await;
        if let Ok(reply) = &sent
            && self.clock.learn(reply, self.environment.now())
        {
            (_, sent) = attempt(self.clock.offset()).await;
        }
        match response::classify_empty(&url, sent) {
            Outcome::Done(()) => HeartbeatOutcome::Accepted,
            Outcome::Stop(error) => HeartbeatOutcome::Missed(HeartbeatFailure {
                error: explained(error, &url, &self.on_disk.state_dir),
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

    /// Tells the hub the facts anew, with which it pins the key if none is pinned.
    async fn register(&mut self) {
        let OnDisk {
            settings,
            token,
            identity,
            introducer,
            wire,
            target,
            ..
        } = &self.on_disk;
        let target = target.as_ref().unwrap_or(const { &Target::UNKNOWN });
        let request = introducer.request(settings, self.environment, target, token, identity);
        let url = request.url.to_string();
        let sent = wire.send(request, self.environment).await;
        match response::classify(&url, sent, hub::registered) {
            Outcome::Done(admission) => {
                let seconds = admission.heartbeat_interval_secs;
                self.interval = Some(Duration::from_secs(seconds));
                self.health.interval_secs = seconds;
                self.register_at = clock::after(Instant::now(), REGISTER);
            }
            Outcome::Wait { error, .. } => {
                tracing::debug!(
                    "registering waits for the next heartbeat: {}",
                    error.cause()
                );
            }
            Outcome::Stop(error) => {
                tracing::warn!(
                    "the hub takes heartbeats, but not this host's facts and key: {}; cause: {}; hint: {}",
                    error.what(),
                    error.cause(),
                    error.next_step()
                );
                self.register_at = clock::after(Instant::now(), REGISTER);
            }
        }
    }
}

impl<W: Wire> ServiceHost for Agent<'_, W> {
    async fn heartbeat(&mut self) -> Result<HeartbeatOutcome> {
        if self.must_reload || self.is_stale() {
            self.read_again()?;
        }
        if self.gone_since.is_some() {
            return Ok(HeartbeatOutcome::NotSent);
        }
        if self.on_disk.is_unsettled && !step::owns(&self.on_disk.state_dir) {
            return self.ask_for_step();
        }
        if self.on_disk.is_unsettled {
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
        if std::mem::take(&mut self.on_disk.is_untidy)
            && step::owns(&self.on_disk.state_dir)
            && let Err(error) = Box::pin(recover_now(self.flags, self.environment)).await
        {
            // No reason to be silent towards the hub.
            tracing::debug!("{}: {}", error.what(), error.cause());
        }
        let Some(quiet) = self.share()? else {
            return Ok(HeartbeatOutcome::NotSent);
        };
        let mut beat = self.send().await;
        if matches!(&beat, HeartbeatOutcome::Missed(miss) if miss.is_refusal) && self.is_stale() {
            // The credential was replaced while the old one was on its way.
            self.read_again()?;
            if self.gone_since.is_some() {
                return Ok(HeartbeatOutcome::NotSent);
            }
            beat = self.send().await;
        }
        drop(quiet);
        Ok(beat)
    }

    async fn follow_up(&mut self) {
        // Not with the first heartbeat of a run: an operator who has unpinned the key has a whole
        // interval for `rotate-key`, before a service that was just started pins the old key again.
        if !std::mem::replace(&mut self.has_beaten, true) || Instant::now() < self.register_at {
            return;
        }
        // What was changed meanwhile is read by the next heartbeat, which proves it first.
        if self.is_stale() {
            return;
        }
        if let Ok(Some(quiet)) = self.share() {
            self.register().await;
            drop(quiet);
        }
    }

    fn interval(&self) -> Duration {
        self.interval.unwrap_or(self.on_disk.interval)
    }

    fn health(&mut self) -> &mut Health {
        &mut self.health
    }

    fn save(&mut self, occasion: SaveReason) {
        if self.gone_since.is_none() {
            self.journal.save(&self.health, occasion);
        }
        // `unenrol` removes the credential first and this file after it. So whichever comes last, the
        // file of a host that has left does not stay.
        if self.is_gone() {
            self.journal.remove();
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

/// A refusal in the words that fit this host's own credential.
fn explained(error: Error, url: &str, state_dir: &Path) -> Error {
    let interrupted = || State::load(state_dir).ok()??.interrupted();
    match error.id() {
        ErrorId::Rejected if let Some((cause, hint)) = interrupted() => {
            let cause = format!("the hub answered 401 to this host's own credential: {cause}");
            Error::new(ErrorId::Rejected, cause).about(url).hint(hint)
        }
        ErrorId::Rejected => Error::new(
            ErrorId::Rejected,
            "the hub answered 401 to this host's own credential: it was rotated, or the agent was deleted",
        )
        .about(url)
        .hint("an operator looks up the agent at the hub; with its new token: monsys-agent rotate-token --token-file -"),
        ErrorId::OtherKey => error.hint(
            "if that was you: an operator unpins the key (POST /api/v1/agents/ID/rotate-signing-key), then: monsys-agent rotate-key; if not, somebody else holds this host's token: rotate it too",
        ),
        _ => error,
    }
}
