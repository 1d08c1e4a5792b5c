//! One host with its real files for days of paused time. Only the transport to the hub is replaced.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::agent::Agent;
use super::transport::Transport;
use crate::identity::{Identity, KEY_FILE};
use agent_core::environment::Environment;
use agent_core::error::{ErrorId, Result};
use agent_core::flags::Flags;
use agent_core::hub::client::{Reply, Request, SendError};
use agent_core::service::{HeartbeatOutcome, ServiceHost, run_heartbeats_alone};
use agent_core::settings::Settings;
use agent_core::store::access::Access;
use agent_core::store::atomic::{self, Owner};

const AGENT: &str = "6f1c2a1e-8f0e-4a55-9a3c-0d8f5f3b7f10";

thread_local! {
    /// The status of the hub's response to a heartbeat.
    static STATUS: Cell<u16> = const { Cell::new(204) };
    /// The tokens of the heartbeats since the last inspection.
    static TOKENS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    /// A change of the host while a heartbeat is under way.
    static MEANWHILE: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

/// A transport that responds without a network.
struct Cut;

impl Transport for Cut {
    fn new(_: &Settings, _: bool) -> Result<Self> {
        Ok(Self)
    }

    async fn send(&self, request: Request<'_>, _: &Environment) -> Result<Reply, SendError> {
        let (status, body) = if request.url.path().ends_with("/register") {
            let body = json!({"agent_id": AGENT, "heartbeat_interval_secs": 30});
            (200, body.to_string())
        } else {
            TOKENS.with_borrow_mut(|tokens| {
                tokens.push(request.bearer.unwrap().expose_secret().to_owned());
            });
            (STATUS.get(), r#"{"error":"unauthorized"}"#.to_owned())
        };
        if let Some(meanwhile) = MEANWHILE.take() {
            meanwhile();
        }
        Ok(Reply {
            status,
            retry_after: None,
            location: None,
            date: None,
            coding: None,
            media_type: Some("application/json".into()),
            body: body.into_bytes().into(),
        })
    }
}

/// An enrolled host of 127.0.0.1, so that no name is looked up.
fn host() -> (tempfile::TempDir, Environment) {
    // In memory if possible: the day has 2,880 heartbeats.
    let root = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let owner = Owner::of(root.path()).unwrap();
    let state_dir = root.path().join("var/lib/monsys");
    for folder in [&state_dir, &root.path().join("etc/monsys")] {
        std::fs::create_dir_all(folder).unwrap();
    }
    Identity::create_after(None, &state_dir, KEY_FILE, Access::private()).unwrap();
    write_token(root.path(), "agt_first");
    let lay = |path: &str, text: &str| {
        atomic::write(&root.path().join(path), text.as_bytes(), 0o600, owner).unwrap();
    };
    lay("var/lib/monsys/agent-id", AGENT);
    lay(
        "var/lib/monsys/state.json",
        "{\"enrolled_at\":\"2026-01-01T00:00:00Z\"}",
    );
    let environment = Environment::real([])
        .with_root(root.path())
        .with_kernel(root.path())
        .with_variables([("HOST_HOSTNAME_FILE", "/none")])
        .with_seed(1);
    (root, environment)
}

fn write_token(root: &Path, token: &str) {
    let text =
        format!("hub_url = 'https://127.0.0.1:9'\nagent_id = '{AGENT}'\nagent_token = '{token}'\n");
    let path = root.join("etc/monsys/agent.toml");
    atomic::write(&path, text.as_bytes(), 0o600, Owner::of(root).unwrap()).unwrap();
}

fn last_token() -> String {
    let tokens = TOKENS.take();
    tokens.last().cloned().unwrap_or_default()
}

#[test]
fn a_day_of_heartbeats_outages_and_refusals_retains_nothing() {
    let (root, environment) = host();
    let flags = Flags::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let mut agent = runtime.block_on(async { Agent::<Cut>::load(&flags, &environment).unwrap() });
    let mut life = Box::pin(run_heartbeats_alone(&mut agent, &environment));
    let mut heartbeats = 0;
    let mut day = |part: Duration, heartbeats: &mut usize| {
        for status in [204, 503, 204, 401, 403, 204, 409, 204] {
            STATUS.set(status);
            runtime.block_on(async {
                let ended = tokio::time::timeout(part, &mut life).await;
                assert!(ended.is_err(), "{ended:?}");
            });
            *heartbeats += TOKENS.take().len();
        }
    };
    // Each state occurs once before the measurement, so that lasting allocations exist already.
    day(Duration::from_mins(20), &mut heartbeats);
    let mut again = 0;
    let used = allocation_counter::measure(|| day(Duration::from_hours(3), &mut again));
    assert!(again > 1200, "{again} heartbeats in a day");
    assert!(used.count_total > 10_000, "nothing was measured");
    assert!(
        used.bytes_current.abs() < 2048,
        "{} bytes",
        used.bytes_current
    );
    assert!(
        used.bytes_max < 512 * 1024,
        "{} bytes at once",
        used.bytes_max
    );
    drop(root);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_replaced_is_read_before_the_next_heartbeat_without_a_signal() {
    let (root, environment) = host();
    let flags = Flags::default();
    let mut agent = Agent::<Cut>::load(&flags, &environment).unwrap();
    assert!(matches!(
        agent.heartbeat().await,
        Ok(HeartbeatOutcome::Accepted)
    ));
    assert_eq!(last_token(), "agt_first");
    write_token(root.path(), "agt_second");
    assert!(matches!(
        agent.heartbeat().await,
        Ok(HeartbeatOutcome::Accepted)
    ));
    assert_eq!(last_token(), "agt_second");
}

/// The operator rotates while a heartbeat with the old token is on its way.
#[tokio::test(start_paused = true)]
async fn a_rejection_of_a_credential_that_was_just_replaced_is_not_a_failure() {
    let (root, environment) = host();
    let flags = Flags::default();
    let mut agent = Agent::<Cut>::load(&flags, &environment).unwrap();
    let path = root.path().to_owned();
    STATUS.set(401);
    MEANWHILE.set(Some(Box::new(move || {
        write_token(&path, "agt_second");
        STATUS.set(204);
    })));
    let outcome = agent.heartbeat().await;
    assert!(
        matches!(
            outcome,
            Ok(HeartbeatOutcome::Missed(_) | HeartbeatOutcome::Accepted)
        ),
        "{outcome:?}"
    );
    assert_eq!(TOKENS.take(), ["agt_first", "agt_second"]);
}

#[tokio::test(start_paused = true)]
async fn no_heartbeat_is_sent_while_the_key_is_replaced() {
    use crate::heartbeat_lock::HeartbeatLock;
    let (root, environment) = host();
    let flags = Flags::default();
    let mut agent = Agent::<Cut>::load(&flags, &environment).unwrap();
    let state_dir = root.path().join("var/lib/monsys");
    let exclusive = HeartbeatLock::exclusive(&state_dir, Instant::now())
        .await
        .unwrap();
    assert!(matches!(
        agent.heartbeat().await,
        Ok(HeartbeatOutcome::NotSent)
    ));
    assert_eq!(last_token(), "");
    drop(exclusive);
    assert!(matches!(
        agent.heartbeat().await,
        Ok(HeartbeatOutcome::Accepted)
    ));
}

/// An editor moves the file away and writes a new one. Only a credential that stays away ends the service.
#[tokio::test(start_paused = true)]
async fn a_file_that_is_missing_for_a_moment_does_not_end_the_service() {
    let (root, environment) = host();
    let flags = Flags::default();
    let mut agent = Agent::<Cut>::load(&flags, &environment).unwrap();
    let path = root.path().join("etc/monsys/agent.toml");
    atomic::remove(&path).unwrap();
    assert!(matches!(
        agent.heartbeat().await,
        Ok(HeartbeatOutcome::NotSent)
    ));
    write_token(root.path(), "agt_first");
    assert!(matches!(
        agent.heartbeat().await,
        Ok(HeartbeatOutcome::Accepted)
    ));
    atomic::remove(&path).unwrap();
    assert!(matches!(
        agent.heartbeat().await,
        Ok(HeartbeatOutcome::NotSent)
    ));
    tokio::time::advance(Duration::from_secs(11)).await;
    assert_eq!(
        agent.heartbeat().await.unwrap_err().id(),
        ErrorId::NotEnrolled
    );
}
