//! The life after the enrolment: the server sees this host, and its certificate is renewed when two
//! thirds of its life are over.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use tokio::time::Instant;

use crate::certificate::Certificate;
use crate::host::{EnrolmentState, Host, NOTES, Notes};
use crate::mimir::{LOCK, Mimir, enrol};
use crate::{exchange, status, wire};
use agent_core::clock;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::HostFacts;
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

/// How often the server sees a host. The documentation says to give it a minute.
const INTERVAL: Duration = Duration::from_mins(1);
/// How long a renewal waits for a run that has the lock.
const MOMENT: Duration = Duration::from_millis(300);

/// The service. A host that is not enrolled yet, and is told where a secret is to be had, enrols
/// first.
pub(crate) async fn serve(flags: &Flags, environment: &Environment) -> Result<()> {
    service::run_heartbeats(environment, async || Renewing::load(flags, environment)).await
}

/// The privileged step: enrols a host that is not enrolled yet and is told where a secret is to be
/// had, and renews a certificate whose time has come.
pub(crate) async fn step(
    flags: &Flags,
    environment: &Environment,
    is_service: bool,
) -> Result<Option<Error>> {
    let host = Mimir::read(flags, environment)?;
    let enrolment_state = host.enrolment_state()?;
    match enrolment_state {
        EnrolmentState::Enrolled if is_service => return Ok(None),
        EnrolmentState::Enrolled => return renew_if_due(flags, environment).await,
        EnrolmentState::Unproved => {}
        _ if host.settings.token.is_some() => {}
        _ => return Err(not_enrolled(enrolment_state, &host.host)),
    }
    tracing::info!("this host is not enrolled yet: enrolling it first");
    drop(host);
    enrol(flags, environment).await?;
    Ok(None)
}

/// Renews a certificate whose time has come. One that cannot be renewed yet is still good.
async fn renew_if_due(flags: &Flags, environment: &Environment) -> Result<Option<Error>> {
    let mut renewing = Renewing::load(flags, environment)?;
    if !renewing.is_due() {
        return Ok(None);
    }
    Ok(match renewing.renew().await {
        Ok(Ok(())) => None,
        Ok(Err(miss)) => Some(miss.error),
        // A full disk, or a run that has the lock, takes no certificate away.
        Err(error) => Some(error),
    })
}

fn not_enrolled(enrolment_state: EnrolmentState, host: &Host) -> Error {
    let cause = match enrolment_state {
        EnrolmentState::Expired => {
            "its client certificate has expired, so only an enrollment secret brings a new one"
        }
        EnrolmentState::Clone => {
            "what is on this disk belongs to another machine that this one was cloned from, and nothing says where a secret is to be had"
        }
        _ => "it has no client certificate, and nothing says where a secret is to be had",
    };
    Error::new(ErrorId::NotEnrolled, cause)
        .about(host.files.folder().display())
        .hint(status::TO_ENROL)
}

/// An enrolled host.
struct Renewing<'a> {
    flags: &'a Flags,
    environment: &'a Environment,
    now: OnDisk,
    health: Health,
    journal: HealthFile,
    must_reload: bool,
}

/// What it was read from.
struct OnDisk {
    settings: Settings,
    host: Host,
    certificate: Certificate,
    client: Client,
    stamp: Stamp,
}

type Stamp = [Option<(u64, i64, i64)>; 2];

impl OnDisk {
    fn read(flags: &Flags, environment: &Environment) -> Result<Self> {
        let Mimir { settings, host, .. } = Mimir::read(flags, environment)?;
        let stamp = stamp(&host);
        let enrolment_state = host.enrolment_state(environment.now())?;
        // An expired one is told by the server: it may be this host's clock that is wrong.
        if !matches!(
            enrolment_state,
            EnrolmentState::Enrolled | EnrolmentState::Expired
        ) {
            return Err(not_enrolled(enrolment_state, &host));
        }
        let certificate = host
            .certificate()?
            .ok_or_else(|| not_enrolled(EnrolmentState::New, &host))?;
        Ok(Self {
            client: exchange::proving(&settings, &host)?,
            settings,
            host,
            certificate,
            stamp,
        })
    }
}

/// When the files that count were last replaced.
fn stamp(host: &Host) -> Stamp {
    [CERTIFICATE, NOTES].map(|name| {
        let metadata = std::fs::symlink_metadata(host.files.folder().join(name)).ok()?;
        Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec()))
    })
}

impl<'a> Renewing<'a> {
    fn load(flags: &'a Flags, environment: &'a Environment) -> Result<Self> {
        let now = OnDisk::read(flags, environment)?;
        let journal = HealthFile::of(now.host.files.folder(), environment);
        let agent_id = now.host.notes.agent_id.clone().unwrap_or_default();
        let mut health = journal.load(&agent_id).unwrap_or_default();
        health.agent_id = agent_id;
        health.interval_secs = INTERVAL.as_secs();
        Ok(Self {
            flags,
            environment,
            now,
            health,
            journal,
            must_reload: false,
        })
    }

    /// One call under the certificate.
    async fn call<T>(
        &self,
        request: Request<'_>,
        accepted: impl FnOnce(&Reply) -> std::result::Result<T, String>,
    ) -> std::result::Result<T, HeartbeatFailure> {
        let url = request.url.to_string();
        let deadline = Instant::now() + EXCHANGE;
        let sent = self
            .now
            .client
            .send(request, self.environment, deadline)
            .await;
        match response::classify(&url, sent, accepted) {
            Outcome::Done(value) => Ok(value),
            Outcome::Stop(error) => Err(HeartbeatFailure {
                error: wire::not_known(error),
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

    fn is_due(&self) -> bool {
        self.environment.now() >= self.now.certificate.renew_at()
    }

    /// Has the privileged step renew the certificate, which the service may not write. After a step
    /// that could not, the certificate is still good, and is used until that step's pause is over.
    fn ask_for_step(&self) -> Result<HeartbeatOutcome> {
        let host = Mimir::read(self.flags, self.environment)?;
        let last = step::recorded(&host, self.environment);
        match last.filter(|last| !last.pause_left(self.environment.now()).is_zero()) {
            Some(_) => Ok(HeartbeatOutcome::Accepted),
            None => Err(step::needed("the client certificate is to be renewed")),
        }
    }

    /// Asks for the next certificate, for the same key, and puts it into the place of this one.
    async fn renew(&mut self) -> Result<std::result::Result<(), HeartbeatFailure>> {
        let folder = self.now.host.files.folder().to_owned();
        let _lock = Lock::take(&folder, LOCK, Instant::now() + MOMENT).await?;
        let settings = &self.now.settings;
        let facts = HostFacts::gather(settings, self.environment, &Target::literal(settings));
        let key = self.now.host.key()?;
        let request = key.and_then(|key| Some((key.request(&facts.hostname)?, key.public())));
        let Some((csr, public)) = request else {
            return Err(not_enrolled(EnrolmentState::New, &self.now.host));
        };
        let request = wire::renew(&settings.hub_url.value, &csr);
        let now = self.environment.now();
        let answer = self.call(request, |reply| {
            let certified = wire::certified(reply)?;
            let certificate = Certificate::from_pem(certified.certificate_pem.as_bytes())?;
            certificate.check(&public, certified.ca_pem.as_bytes(), now)?;
            Ok((certified, certificate.expires_at()))
        });
        let (certified, until) = match answer.await {
            Ok(renewed) => renewed,
            Err(miss) => return Ok(Err(miss)),
        };
        let notes: Notes = self.now.host.notes.clone();
        let (certificate, ca) = (&certified.certificate_pem, &certified.ca_pem);
        self.now.host.keep(notes, KEY, certificate, ca)?;
        tracing::info!(
            "renewed the client certificate: good until {}",
            clock::rfc3339(until)
        );
        self.now = OnDisk::read(self.flags, self.environment)?;
        Ok(Ok(()))
    }
}

impl service::ServiceHost for Renewing<'_> {
    async fn heartbeat(&mut self) -> Result<HeartbeatOutcome> {
        if self.must_reload || self.is_stale() {
            self.now = OnDisk::read(self.flags, self.environment)?;
            self.must_reload = false;
            tracing::info!("read {} again", self.now.host.files.folder().display());
        }
        let myself = wire::myself(&self.now.settings.hub_url.value);
        if let Err(miss) = self.call(myself, wire::known_as).await {
            return Ok(HeartbeatOutcome::Missed(miss));
        }
        if !self.is_due() {
            return Ok(HeartbeatOutcome::Accepted);
        }
        if !step::owns(self.now.host.files.folder()) {
            return self.ask_for_step();
        }
        match self.renew().await {
            Ok(Ok(())) => Ok(HeartbeatOutcome::Accepted),
            Ok(Err(miss)) => Ok(HeartbeatOutcome::Missed(miss)),
            Err(error) if error.id() == ErrorId::LockBusy => Ok(HeartbeatOutcome::NotSent),
            // A full disk is no reason to be silent towards the server.
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

    fn save(&mut self, occasion: SaveReason) {
        self.journal.save(&self.health, occasion);
    }

    fn is_stale(&self) -> bool {
        self.now.stamp != stamp(&self.now.host)
    }

    fn reload(&mut self) {
        self.must_reload = true;
    }

    fn describe(&self) -> String {
        let agent = self.now.host.notes.agent_id.as_deref().unwrap_or_default();
        format!("agent {agent} of {}", self.now.settings.hub_url.value)
    }
}
