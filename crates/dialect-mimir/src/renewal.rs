//! The life after the enrolment: the server sees this host, and its certificate is renewed when two
//! thirds of its life are over.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use tokio::time::Instant;

use crate::certificate::Certificate;
use crate::host::{Host, NOTES, Notes, Standing};
use crate::mimir::{LOCK, Mimir, enrol};
use crate::{asking, status, wire};
use agent_core::clock;
use agent_core::environment::World;
use agent_core::error::{Error, ErrorId, Result};
use agent_core::facts::HostFacts;
use agent_core::facts::route::Target;
use agent_core::flags::Flags;
use agent_core::hub::client::{Client, EXCHANGE, Reply, Request};
use agent_core::hub::verdict::{self, Outcome};
use agent_core::service::{self, Beat, Health, Journal, Miss, Occasion, step};
use agent_core::settings::Settings;
use agent_core::store::key_files::{CERTIFICATE, KEY};
use agent_core::store::lock::Lock;

/// How often the server sees a host. The documentation says to give it a minute.
const INTERVAL: Duration = Duration::from_mins(1);
/// How long a renewal waits for a run that has the lock.
const MOMENT: Duration = Duration::from_millis(300);

/// The service. A host that is not enrolled yet, and is told where a secret is to be had, enrols
/// first.
pub(crate) async fn serve(flags: &Flags, world: &World) -> Result<()> {
    service::keep(world, async || Renewing::load(flags, world)).await
}

/// The privileged step: enrols a host that is not enrolled yet and is told where a secret is to be
/// had, and renews a certificate whose time has come.
pub(crate) async fn step(flags: &Flags, world: &World, is_service: bool) -> Result<Option<Error>> {
    let host = Mimir::read(flags, world)?;
    let standing = host.standing()?;
    match standing {
        Standing::Enrolled if is_service => return Ok(None),
        Standing::Enrolled => return renew_if_due(flags, world).await,
        Standing::Unproved => {}
        _ if host.settings.token.is_some() => {}
        _ => return Err(not_enrolled(standing, &host.host)),
    }
    tracing::info!("this host is not enrolled yet: enrolling it first");
    drop(host);
    enrol(flags, world).await?;
    Ok(None)
}

/// Renews a certificate whose time has come. One that cannot be renewed yet is still good.
async fn renew_if_due(flags: &Flags, world: &World) -> Result<Option<Error>> {
    let mut renewing = Renewing::load(flags, world)?;
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

fn not_enrolled(standing: Standing, host: &Host) -> Error {
    let cause = match standing {
        Standing::Expired => {
            "its client certificate has expired, so only an enrollment secret brings a new one"
        }
        Standing::Clone => {
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
    world: &'a World,
    now: OnDisk,
    health: Health,
    journal: Journal,
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
    fn read(flags: &Flags, world: &World) -> Result<Self> {
        let Mimir { settings, host, .. } = Mimir::read(flags, world)?;
        let stamp = stamp(&host);
        let standing = host.standing(world.now())?;
        // An expired one is told by the server: it may be this host's clock that is wrong.
        if !matches!(standing, Standing::Enrolled | Standing::Expired) {
            return Err(not_enrolled(standing, &host));
        }
        let certificate = host
            .certificate()?
            .ok_or_else(|| not_enrolled(Standing::New, &host))?;
        Ok(Self {
            client: asking::proving(&settings, &host)?,
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
    fn load(flags: &'a Flags, world: &'a World) -> Result<Self> {
        let now = OnDisk::read(flags, world)?;
        let journal = Journal::of(now.host.files.folder(), world);
        let agent_id = now.host.notes.agent_id.clone().unwrap_or_default();
        let mut health = journal.load(&agent_id).unwrap_or_default();
        health.agent_id = agent_id;
        health.interval_secs = INTERVAL.as_secs();
        Ok(Self {
            flags,
            world,
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
    ) -> std::result::Result<T, Miss> {
        let url = request.url.to_string();
        let deadline = Instant::now() + EXCHANGE;
        let sent = self.now.client.send(request, self.world, deadline).await;
        match verdict::judge(&url, sent, accepted) {
            Outcome::Done(value) => Ok(value),
            Outcome::Stop(error) => Err(Miss {
                error: wire::not_known(error),
                retry_after: None,
                is_refusal: true,
            }),
            Outcome::Wait { error, retry_after } => Err(Miss {
                error,
                retry_after,
                is_refusal: false,
            }),
        }
    }

    fn is_due(&self) -> bool {
        self.world.now() >= self.now.certificate.renew_at()
    }

    /// Has the privileged step renew the certificate, which the service may not write. After a step
    /// that could not, the certificate is still good, and is used until that step's pause is over.
    fn ask_for_step(&self) -> Result<Beat> {
        let host = Mimir::read(self.flags, self.world)?;
        let last = step::recorded(&host, self.world);
        match last.filter(|last| !last.pause_left(self.world.now()).is_zero()) {
            Some(_) => Ok(Beat::Accepted),
            None => Err(step::needed("the client certificate is to be renewed")),
        }
    }

    /// Asks for the next certificate, for the same key, and puts it into the place of this one.
    async fn renew(&mut self) -> Result<std::result::Result<(), Miss>> {
        let folder = self.now.host.files.folder().to_owned();
        let _lock = Lock::take(&folder, LOCK, Instant::now() + MOMENT).await?;
        let settings = &self.now.settings;
        let facts = HostFacts::gather(settings, self.world, &Target::literal(settings));
        let key = self.now.host.key()?;
        let request = key.and_then(|key| Some((key.request(&facts.hostname)?, key.public())));
        let Some((csr, public)) = request else {
            return Err(not_enrolled(Standing::New, &self.now.host));
        };
        let request = wire::renew(&settings.hub_url.value, &csr);
        let now = self.world.now();
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
        self.now = OnDisk::read(self.flags, self.world)?;
        Ok(Ok(()))
    }
}

impl service::Host for Renewing<'_> {
    async fn beat(&mut self) -> Result<Beat> {
        if self.must_reload || self.is_stale() {
            self.now = OnDisk::read(self.flags, self.world)?;
            self.must_reload = false;
            tracing::info!("read {} again", self.now.host.files.folder().display());
        }
        let myself = wire::myself(&self.now.settings.hub_url.value);
        if let Err(miss) = self.call(myself, wire::known_as).await {
            return Ok(Beat::Missed(miss));
        }
        if !self.is_due() {
            return Ok(Beat::Accepted);
        }
        if !step::owns(self.now.host.files.folder()) {
            return self.ask_for_step();
        }
        match self.renew().await {
            Ok(Ok(())) => Ok(Beat::Accepted),
            Ok(Err(miss)) => Ok(Beat::Missed(miss)),
            Err(error) if error.id() == ErrorId::LockBusy => Ok(Beat::Held),
            // A full disk is no reason to be silent towards the server.
            Err(error) => Ok(Beat::Missed(Miss {
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

    fn save(&mut self, occasion: Occasion) {
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
