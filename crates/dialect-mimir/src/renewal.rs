//! The service after the enrolment: regular calls to the server, and the renewal of the certificate when
//! two thirds of its lifetime are over.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use tokio::time::Instant;

use crate::certificate::{Certificate, Clock};
use crate::host_state::{EnrolmentState, HostState, RECORD_FILE, Record};
use crate::mimir::{LOCK, Mimir, enrol};
use crate::{exchange, status, wire};
use agent_core::clock;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::HostFacts;
use agent_core::facts::fingerprint::Fingerprint;
use agent_core::facts::route::Target;
use agent_core::flags::Flags;
use agent_core::hub::client::{Client, EXCHANGE, Reply, Request};
use agent_core::hub::response::{self, Outcome};
use agent_core::service::{
    self, Health, HealthFile, HeartbeatFailure, HeartbeatOutcome, SaveReason, step,
};
use agent_core::settings::Settings;
use agent_core::store::key_files::{CERTIFICATE, KEY};
use agent_core::store::lock::Lock;

/// Interval between calls to the server: one minute, as the documentation of Mimir has it.
const INTERVAL: Duration = Duration::from_mins(1);
/// Longest time that a renewal waits for a run that holds the lock.
const LOCK_WAIT: Duration = Duration::from_millis(300);

/// Runs the service of an enrolled host until SIGTERM or SIGINT.
///
/// # Errors
/// [`ErrorId::NotEnrolled`], and files that cannot be read.
pub(crate) async fn serve(flags: &Flags, environment: &Environment) -> Result<()> {
    service::run_heartbeats(environment, async || Renewal::load(flags, environment)).await
}

/// Runs the privileged step: enrols a host that is not enrolled yet and has a token source, and renews a
/// certificate that is due.
///
/// Returns the error of a renewal that the next step repeats, and that does not stop the service.
///
/// # Errors
/// The reason why the service cannot run.
pub(crate) async fn step(
    flags: &Flags,
    environment: &Environment,
    is_service: bool,
) -> Result<Option<Error>> {
    let host = Mimir::read(flags, environment)?;
    let enrolment_state = host.enrolment_state()?;
    match enrolment_state {
        EnrolmentState::Enrolled => {
            let later = update_machine(flags, environment).await.err();
            if is_service || later.is_some() {
                return Ok(later);
            }
            return renew_if_due(flags, environment).await;
        }
        EnrolmentState::Unproved => {}
        _ if host.settings.token.is_some() => {}
        _ => return Err(not_enrolled(enrolment_state, &host.state)),
    }
    tracing::info!("this host is not enrolled yet: enrolling it first");
    drop(host);
    enrol(flags, environment).await?;
    Ok(None)
}

/// Asks the server by one call whether it knows the certificate. Returns `false` when there is none, or when the
/// server has no such call.
///
/// # Errors
/// The server's rejection, and a server that does not answer.
pub(crate) async fn accepts_certificate(flags: &Flags, environment: &Environment) -> Result<bool> {
    let host = Mimir::read(flags, environment)?;
    if host.enrolment_state()? != EnrolmentState::Enrolled {
        return Ok(false);
    }
    let renewal = Renewal::load(flags, environment)?;
    renewal.call_self().await.map_err(|miss| miss.error)
}

/// Writes the ids of the machine as they are now into the record, if it lacks them.
async fn update_machine(flags: &Flags, environment: &Environment) -> Result<()> {
    let host = Mimir::read(flags, environment)?;
    if !host.state.has_old_machine() {
        return Ok(());
    }
    let folder = host.state.files.folder();
    let _lock = Lock::take(folder, LOCK, Instant::now() + LOCK_WAIT).await?;
    // Another run may have written the record meanwhile.
    let host = Mimir::read(flags, environment)?;
    if host.state.has_old_machine() {
        host.state.save_machine()
    } else {
        Ok(())
    }
}

/// Renews a certificate that is due. A certificate that cannot be renewed yet is still valid.
async fn renew_if_due(flags: &Flags, environment: &Environment) -> Result<Option<Error>> {
    let mut renewal = Renewal::load(flags, environment)?;
    if !renewal.is_due() {
        return Ok(None);
    }
    Ok(match renewal.renew().await {
        Ok(Ok(())) => None,
        Ok(Err(miss)) => Some(miss.error),
        // The certificate is still valid when the disk is full, or another run holds the lock.
        Err(error) => Some(error),
    })
}

/// Returns the error of a host without a valid certificate.
fn not_enrolled(enrolment_state: EnrolmentState, state: &HostState) -> Error {
    let cause = match enrolment_state {
        EnrolmentState::Expired => {
            "the client certificate has expired, and only an enrollment secret brings a new one"
        }
        EnrolmentState::Clone => {
            "the files on this disk belong to another machine that this one was cloned from, and no token source is set"
        }
        _ => "the host has no client certificate, and no token source is set",
    };
    Error::new(ErrorId::NotEnrolled, cause)
        .about(state.files.folder().display())
        .hint(status::TO_ENROL)
}

/// The heartbeat loop's view of an enrolled host.
struct Renewal<'a> {
    flags: &'a Flags,
    environment: &'a Environment,
    on_disk: OnDisk,
    health: Health,
    health_file: HealthFile,
    must_reload: bool,
}

/// The files and settings of an enrolled host.
struct OnDisk {
    settings: Settings,
    state: HostState,
    certificate: Certificate,
    client: Client,
    stamp: Stamp,
    /// The machine as this user saw it when the files were read.
    seen: Fingerprint,
}

/// The versions of certificate and record: inode, and time of change in seconds and nanoseconds.
type Stamp = [Option<(u64, i64, i64)>; 2];

impl OnDisk {
    fn read(flags: &Flags, environment: &Environment) -> Result<Self> {
        let Mimir {
            settings, state, ..
        } = Mimir::read(flags, environment)?;
        let stamp = stamp(&state);
        let enrolment_state = state.enrolment_state(environment.now())?;
        // Without root's view of the machine, this is not certain.
        if enrolment_state == EnrolmentState::Clone && !step::owns(state.files.folder()) {
            return Err(step::needed(
                "the ids of this machine are not those of the host that was enrolled",
            ));
        }
        // The server decides about an expired certificate: this host's clock may be wrong.
        if !matches!(
            enrolment_state,
            EnrolmentState::Enrolled | EnrolmentState::Expired
        ) {
            return Err(not_enrolled(enrolment_state, &state));
        }
        let certificate = state
            .certificate()?
            .ok_or_else(|| not_enrolled(EnrolmentState::New, &state))?;
        Ok(Self {
            client: exchange::certified_client(&settings, &state)?,
            settings,
            state,
            certificate,
            stamp,
            seen: Fingerprint::of(environment)?,
        })
    }
}

/// Returns the versions of the files whose change is a reason to read them again.
fn stamp(state: &HostState) -> Stamp {
    [CERTIFICATE, RECORD_FILE].map(|name| {
        let metadata = std::fs::symlink_metadata(state.files.folder().join(name)).ok()?;
        Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec()))
    })
}

impl<'a> Renewal<'a> {
    fn load(flags: &'a Flags, environment: &'a Environment) -> Result<Self> {
        let on_disk = OnDisk::read(flags, environment)?;
        let health_file = HealthFile::of(on_disk.state.files.folder(), environment);
        let agent_id = on_disk.state.record.agent_id.clone().unwrap_or_default();
        let mut health = health_file.load(&agent_id).unwrap_or_default();
        health.agent_id = agent_id;
        health.interval_secs = INTERVAL.as_secs();
        Ok(Self {
            flags,
            environment,
            on_disk,
            health,
            health_file,
            must_reload: false,
        })
    }

    /// Sends one request under the certificate.
    async fn call<T>(
        &self,
        request: Request<'_>,
        accepted: impl FnOnce(&Reply) -> std::result::Result<T, String>,
    ) -> std::result::Result<T, HeartbeatFailure> {
        let url = request.url.to_string();
        let deadline = Instant::now() + EXCHANGE;
        let sent = self
            .on_disk
            .client
            .send(request, self.environment, deadline)
            .await;
        match response::classify(&url, sent, accepted) {
            Outcome::Done(value) => Ok(value),
            Outcome::Stop(error) => Err(HeartbeatFailure {
                error: wire::explain_unknown_certificate(error),
                retry_after: None,
                is_refusal: true,
            }),
            Outcome::Wait { error, retry_after } => Err(HeartbeatFailure {
                error,
                retry_after,
                is_refusal: false,
            }),
        }
    }

    /// Calls the server. Returns `false` for a server without that call, which has accepted the certificate in TLS.
    async fn call_self(&self) -> std::result::Result<bool, HeartbeatFailure> {
        let myself = wire::myself(&self.on_disk.settings.hub_url.value);
        match self.call(myself, wire::known_as).await {
            Ok(_) => Ok(true),
            Err(miss)
                if self.on_disk.state.record.lacks_self_call
                    && miss.error.id() == ErrorId::Refused =>
            {
                Ok(false)
            }
            Err(miss) => Err(miss),
        }
    }

    /// Returns whether the certificate is to be renewed.
    fn is_due(&self) -> bool {
        self.environment.now() >= self.on_disk.certificate.renew_at()
    }

    /// Returns whether the machine shows other ids than when the files were read, as after a migration. The
    /// product UUID counts only for root.
    fn is_other_machine(&self) -> bool {
        Fingerprint::of(self.environment).is_ok_and(|now| now != self.on_disk.seen)
    }

    /// Requests the privileged step, which writes the files: the service may not.
    /// After a step that failed, the service continues with the valid certificate until the pause of that
    /// step is over.
    fn request_step(&self, cause: &str) -> Result<HeartbeatOutcome> {
        let host = Mimir::read(self.flags, self.environment)?;
        let last = step::recorded(&host, self.environment);
        match last.filter(|last| !last.pause_left(self.environment.now()).is_zero()) {
            Some(_) => Ok(HeartbeatOutcome::Accepted),
            None => Err(step::needed(cause)),
        }
    }

    /// Requests a new certificate for the same key, and writes it in the place of the present one.
    async fn renew(&mut self) -> Result<std::result::Result<(), HeartbeatFailure>> {
        let folder = self.on_disk.state.files.folder().to_owned();
        let _lock = Lock::take(&folder, LOCK, Instant::now() + LOCK_WAIT).await?;
        let settings = &self.on_disk.settings;
        let facts = HostFacts::gather(settings, self.environment, &Target::literal(settings));
        let key = self.on_disk.state.key()?;
        let request = key.and_then(|key| Some((key.request(&facts.hostname)?, key.public())));
        let Some((csr, public)) = request else {
            return Err(not_enrolled(EnrolmentState::New, &self.on_disk.state));
        };
        let request = wire::renew(&settings.hub_url.value, &csr);
        let now = self.environment.now();
        let response = self.call(request, |reply| {
            let certified = wire::certified(reply)?;
            let clock = Clock {
                server: certified.date,
                host: now,
            };
            let certificate = Certificate::from_pem(certified.certificate_pem.as_bytes())?;
            certificate.check(&public, certified.ca_pem.as_bytes(), clock)?;
            Ok((certified, certificate.expires_at()))
        });
        let (certified, until) = match response.await {
            Ok(renewed) => renewed,
            Err(miss) => return Ok(Err(miss)),
        };
        let record: Record = self.on_disk.state.record.clone();
        let (certificate, ca) = (&certified.certificate_pem, &certified.ca_pem);
        self.on_disk.state.save(record, KEY, certificate, ca)?;
        tracing::info!(
            "renewed the client certificate: valid until {}",
            clock::rfc3339(until)
        );
        self.on_disk = OnDisk::read(self.flags, self.environment)?;
        Ok(Ok(()))
    }
}

impl service::ServiceHost for Renewal<'_> {
    async fn heartbeat(&mut self) -> Result<HeartbeatOutcome> {
        if self.must_reload || self.is_stale() || self.is_other_machine() {
            self.on_disk = OnDisk::read(self.flags, self.environment)?;
            self.must_reload = false;
            tracing::info!("read {} again", self.on_disk.state.files.folder().display());
        }
        if let Err(miss) = self.call_self().await {
            return Ok(HeartbeatOutcome::Missed(miss));
        }
        let is_owner = step::owns(self.on_disk.state.files.folder());
        if self.is_due() && !is_owner {
            return self.request_step("the client certificate is to be renewed");
        }
        if self.on_disk.state.has_old_machine() {
            if !is_owner {
                return self.request_step("the machine has another id than at the enrolment");
            }
            if let Err(error) = update_machine(self.flags, self.environment).await {
                tracing::debug!("{}: {}", error.what(), error.cause());
            }
        }
        if !self.is_due() {
            return Ok(HeartbeatOutcome::Accepted);
        }
        match self.renew().await {
            Ok(Ok(())) => Ok(HeartbeatOutcome::Accepted),
            Ok(Err(miss)) => Ok(HeartbeatOutcome::Missed(miss)),
            Err(error) if error.id() == ErrorId::LockBusy => Ok(HeartbeatOutcome::NotSent),
            // The service continues its calls also when the disk is full.
            Err(error) => Ok(HeartbeatOutcome::Missed(HeartbeatFailure {
                error,
                retry_after: None,
                is_refusal: true,
            })),
        }
    }

    async fn follow_up(&mut self) {}

    fn interval(&self) -> Duration {
        INTERVAL
    }

    fn health(&mut self) -> &mut Health {
        &mut self.health
    }

    fn save(&mut self, reason: SaveReason) {
        self.health_file.save(&self.health, reason);
    }

    fn is_stale(&self) -> bool {
        self.on_disk.stamp != stamp(&self.on_disk.state)
    }

    fn reload(&mut self) {
        self.must_reload = true;
    }

    fn describe(&self) -> String {
        let agent = self
            .on_disk
            .state
            .record
            .agent_id
            .as_deref()
            .unwrap_or_default();
        format!("agent {agent} of {}", self.on_disk.settings.hub_url.value)
    }
}
