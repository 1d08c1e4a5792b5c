//! The checks on the way to the hub: proxy, name, route, connection, TLS, clock, and the hub itself.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use reqwest::Method;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use agent_core::check::{Check, Finding};
use agent_core::clock;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId};
use agent_core::facts::route::{self, Target};
use agent_core::hub::client::{Client, Reply, SendError};
use agent_core::hub::resolver::{self, ResolveError};
use agent_core::settings::Settings;

/// The time limit of one check.
const TIME_LIMIT: Duration = Duration::from_secs(5);
/// The largest difference of the clocks that the hub does not report as an anomaly.
const DRIFT: Duration = Duration::from_mins(5);

/// Runs the checks. A failed check skips the later ones that depend on it.
pub(super) async fn examine(settings: &Settings, environment: &Environment) -> Vec<Check> {
    let mut checks = vec![proxy(settings)];
    let (host, port) = route::peer(settings);
    let (check, addresses) = name(host, port).await;
    checks.push(check);
    checks.push(route_to_hub(settings).await);
    if addresses.is_empty() {
        let because = "the name has no address";
        checks.extend(["connection", "TLS", "hub", "clock"].map(|n| Check::skipped(n, because)));
        return checks;
    }
    let check = connection(&addresses).await;
    let is_connected = check.finding == Finding::Good;
    checks.push(check);
    if !is_connected {
        checks.extend(["TLS", "hub", "clock"].map(|n| Check::skipped(n, "there is no connection")));
        return checks;
    }
    checks.extend(request(settings, environment).await);
    checks
}

fn proxy(settings: &Settings) -> Check {
    let says = match &settings.proxy {
        Some(proxy) if settings.proxy_in_use().is_some() => {
            let (host, port) = route::peer(settings);
            format!("{} names {host}:{port}", proxy.source)
        }
        Some(proxy) if proxy.value.is_bypassed => {
            format!(
                "none: no_proxy names the hub (the proxy is set by {})",
                proxy.source
            )
        }
        Some(proxy) => format!("{} is for https, and the hub's URL is http", proxy.source),
        None => "none".into(),
    };
    Check::good("proxy", says)
}

async fn name(host: &str, port: u16) -> (Check, Vec<SocketAddr>) {
    let title = "name";
    if let Ok(address) = host.parse::<IpAddr>() {
        let says = format!("{host} is an address, so there is no name to resolve");
        return (
            Check::good(title, says),
            vec![SocketAddr::new(address, port)],
        );
    }
    let failed = match timeout(TIME_LIMIT, resolver::addresses(host)).await {
        Ok(Ok(found)) => {
            let list: Vec<String> = found.iter().map(ToString::to_string).collect();
            let says = format!("{host} resolves to {}", list.join(", "));
            let found = found.into_iter();
            let addresses = found.map(|address| SocketAddr::new(address, port));
            return (Check::good(title, says), addresses.collect());
        }
        Ok(Err(error)) => error,
        Err(_) => ResolveError::pending(host),
    };
    let error = Error::new(ErrorId::Unreachable, failed.to_string())
        .about(format!("the name {host}"))
        .hint(failed.hint());
    (Check::bad(title, &error), Vec::new())
}

async fn route_to_hub(settings: &Settings) -> Check {
    let title = "route";
    match route::source(&Target::resolve(settings).await) {
        Some(source) => Check::good(
            title,
            format!("{source} is this host's address on the way to the hub"),
        ),
        None => Check::warning(
            title,
            "the routing table has no route to the hub's address",
            "check it: ip route get ADDRESS",
        ),
    }
}

async fn connection(addresses: &[SocketAddr]) -> Check {
    let title = "connection";
    // All at once: a dead address must not delay the others.
    let mut attempts: JoinSet<_> = addresses
        .iter()
        .map(|address| {
            let address = *address;
            async move {
                (
                    address,
                    timeout(TIME_LIMIT, TcpStream::connect(address)).await,
                )
            }
        })
        .collect();
    let mut failures = Vec::new();
    while let Some(Ok((address, attempt))) = attempts.join_next().await {
        match attempt {
            Ok(Ok(_)) => return Check::good(title, format!("{address} accepts connections")),
            Ok(Err(error)) => failures.push(format!("{address}: {error}")),
            Err(_) => failures.push(format!("{address}: no answer within 5 s")),
        }
    }
    let error = Error::new(ErrorId::Unreachable, failures.join("; ")).hint(
        "check that the hub (or proxy) is running, its port, and the firewalls; HTTPS_PROXY sets a proxy",
    );
    Check::bad(title, &error)
}

/// Sends one request that needs no token, and checks TLS, the hub and the clock.
async fn request(settings: &Settings, environment: &Environment) -> Vec<Check> {
    let url = settings.hub_url.value.join("/healthz");
    let client = match Client::new(settings) {
        Ok(client) => client,
        Err(error) => return vec![Check::bad("TLS", &error)],
    };
    let deadline = Instant::now() + 2 * TIME_LIMIT;
    let reply = match client
        .request(Method::GET, url.clone(), &[], environment, deadline)
        .await
    {
        Ok(reply) => reply,
        Err(failure) => {
            let (SendError::Transient(error) | SendError::Final(error)) = failure;
            return vec![
                Check::bad("TLS", &error.about(&settings.hub_url.value)),
                Check::skipped("hub", "the request was not sent"),
                Check::skipped("clock", "the hub did not send the time"),
            ];
        }
    };
    vec![
        encryption(settings),
        hub(&reply),
        clock(&reply, environment.now()),
    ]
}

fn encryption(settings: &Settings) -> Check {
    let title = "TLS";
    if !settings.hub_url.value.is_https() {
        return Check::warning(
            title,
            "the connection to the hub is plain HTTP: the token is sent unencrypted",
            "use https, unless this is a test on this host",
        );
    }
    let trust = match (&settings.ca_file, &settings.ca_pin) {
        (Some(ca_file), Some(_)) => format!("{} and the pin", ca_file.value.display()),
        (Some(ca_file), None) => ca_file.value.display().to_string(),
        (None, Some(_)) => "the pin".into(),
        (None, None) => "the public CAs".into(),
    };
    Check::good(
        title,
        format!("the hub's certificate is trusted by {trust}"),
    )
}

fn hub(reply: &Reply) -> Check {
    #[derive(Deserialize)]
    struct Health {
        version: Option<String>,
    }
    let version = serde_json::from_slice::<Health>(&reply.body)
        .ok()
        .and_then(|health| health.version)
        .filter(|version| version.chars().all(|c| c.is_ascii_graphic()) && version.len() < 64);
    match (reply.status, version) {
        (200, Some(version)) => Check::good("hub", format!("it answers; version {version}")),
        (status @ (200 | 401 | 403 | 404), _) => Check::good(
            "hub",
            format!("it answers (HTTP {status}), and does not send its version"),
        ),
        (status, _) => Check::warning(
            "hub",
            format!("it answers HTTP {status} to /healthz"),
            "check the hub, and the proxies before it: curl -v URL/healthz",
        ),
    }
}

fn clock(reply: &Reply, now: SystemTime) -> Check {
    let title = "clock";
    let Some(theirs) = reply.date else {
        return Check::skipped(title, "the hub did not send the time");
    };
    let (drift, side) = match now.duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    let seconds = drift.as_secs();
    if drift <= DRIFT {
        return Check::good(title, format!("within {} s of the hub's", seconds + 1));
    }
    Check::warning(
        title,
        format!(
            "this host's clock is {} {side} the hub's ({} here, {} there)",
            humantime::format_duration(Duration::from_secs(seconds)),
            clock::rfc3339(now),
            clock::rfc3339(theirs),
        ),
        "set the clock: timedatectl set-ntp true, or chronyc makestep",
    )
}
