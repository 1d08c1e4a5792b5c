//! The times at which the service requests the privileged step, so that the host returns to a hub that has forgotten
//! it, or gets a new receipt.

use std::time::Duration;

use tokio::time::Instant;

use super::Agent;
use crate::hub_check;
use crate::receipt::Receipt;
use crate::service::transport::Transport;
use crate::step::ask_hub;
use agent_core::clock;
use agent_core::error::{ErrorId, Result};
use agent_core::service::HeartbeatOutcome;
use agent_core::service::step;

/// Time over which the hosts of a fleet fetch their new receipts.
const RENEWAL_SPREAD: Duration = Duration::from_hours(24);

impl<T: Transport> Agent<'_, T> {
    /// Plans the renewal of an old receipt.
    pub(super) fn plan_renewal(&mut self) {
        let receipt = Receipt::load(&self.on_disk.state_dir);
        if receipt.is_some_and(|receipt| receipt.is_old(self.environment.now())) {
            let pause = self.environment.random_up_to(RENEWAL_SPREAD);
            self.renew_at = Some(clock::after(Instant::now(), pause));
        }
    }

    /// Plans the request of the privileged step after a heartbeat with this outcome, and requests the step when it
    /// is due.
    pub(super) fn request_return(&mut self, outcome: &HeartbeatOutcome) -> Result<()> {
        let is_forgotten = match outcome {
            HeartbeatOutcome::NotSent => return Ok(()),
            HeartbeatOutcome::Accepted => false,
            HeartbeatOutcome::Missed(miss) => match miss.error.id() {
                ErrorId::Forgotten => true,
                // No answer of the hub: what it knows is open.
                ErrorId::Unreachable => return Ok(()),
                _ => false,
            },
        };
        if !is_forgotten {
            self.return_at = None;
            let is_accepted = matches!(outcome, HeartbeatOutcome::Accepted);
            return match self.renew_at {
                Some(at) if is_accepted && Instant::now() >= at => {
                    Err(step::needed("the hub's receipt is older than 30 days"))
                }
                _ => Ok(()),
            };
        }
        let interval = self.on_disk.settings.readmission_interval;
        let last = self.on_disk.hub_check.as_ref();
        let environment = self.environment;
        let at = *self.return_at.get_or_insert_with(|| {
            let pause = hub_check::pause(last, interval, environment);
            tracing::info!(
                "the hub does not know this host any more: trying to return in {} s",
                pause.as_secs()
            );
            clock::after(Instant::now(), pause)
        });
        if Instant::now() < at {
            return Ok(());
        }
        Err(step::needed("the hub does not know this host any more"))
    }

    /// Does what the privileged step does, as the owner of the files.
    pub(super) async fn return_to_hub(&mut self) -> Result<()> {
        self.return_at = None;
        self.renew_at = self
            .renew_at
            .map(|_| clock::after(Instant::now(), RENEWAL_SPREAD));
        if let Err(error) = Box::pin(ask_hub(self.flags, self.environment)).await {
            tracing::warn!("{}: {}", error.what(), error.cause());
        }
        self.read_again()
    }
}
