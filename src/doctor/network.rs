//! The way to the hub: proxy, name, route, connection, TLS, clock, and the hub itself.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use reqwest::Method;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use agent_core::check::{Check, Finding};
use agent_core::clock;
use agent_core::environment::Environment;
use agent_core::error::{Error, ErrorId};
use agent_core::facts::route::{self, Target};
use agent_core::hub::client::{Client, Reply, SendError};
use agent_core::settings::Settings;

/// Longest that one step may take.
const STEP: Duration = Duration::from_secs(5);
/// A clock that is off by more is told by the hub as an anomaly.
const DRIFT: Duration = Duration::from_mins(5);

/// Every step of the way, each only when the one before it was taken.
pub(super) async fn examine(settings: &Settings, environment: &Environment) -> Vec<Check> {
    let mut checks = vec![proxy(settings)];
    let (host, port) = route::peer(settings);
    let (check, addresses) = name(host, port).await;
    checks.push(check);
    checks.push(way(settings).await);
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
    checks.extend(talk(settings, environment).await);
    checks
}

fn proxy(settings: &Settings) -> Check {
    let says = match &settings.proxy {
        Some(proxy) if settings.hub_url.value.is_https() => {
            let (host, port) = route::peer(settings);
            format!("{} names {host}:{port}", proxy.source)
        }
        Some(proxy) => format!("{} is for https, and the hub is not", proxy.source),
        None => "none".into(),
    };
    Check::good("proxy", says)
}

async fn name(host: &str, port: u16) -> (Check, Vec<SocketAddr>) {
    let title = "name";
    if let Ok(address) = host.parse::<IpAddr>() {
        let says = format!("{host} is an address; no name to resolve");
        return (
            Check::good(title, says),
            vec![SocketAddr::new(address, port)],
        );
    }
    let cause = match timeout(STEP, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(found)) => {
            let addresses: Vec<SocketAddr> = found.collect();
            let list: Vec<String> = addresses.iter().map(|a| a.ip().to_string()).collect();
            let says = format!("{host} is {}", list.join(", "));
            return (Check::good(title, says), addresses);
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no name server answered in 5 s".into(),
    };
    let error = Error::new(ErrorId::Unreachable, cause)
        .about(format!("the name {host}"))
        .hint(format!(
            "check the spelling, /etc/resolv.conf, and: getent hosts {host}"
        ));
    (Check::bad(title, &error), Vec::new())
}

async fn way(settings: &Settings) -> Check {
    let title = "route";
    match route::source(&Target::resolve(settings).await) {
        Some(source) => Check::good(title, format!("{source} is this host's address there")),
        None => Check::warning(
            title,
            "the routing table has no way to the hub's address",
            "check it: ip route get ADDRESS",
        ),
    }
}

async fn connection(addresses: &[SocketAddr]) -> Check {
    let title = "connection";
    let mut faults = Vec::new();
    for address in addresses {
        match timeout(STEP, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Check::good(title, format!("{address} takes connections")),
            Ok(Err(error)) => faults.push(format!("{address}: {error}")),
            Err(_) => faults.push(format!("{address}: no answer in 5 s")),
        }
    }
    let error = Error::new(ErrorId::Unreachable, faults.join("; ")).hint(
        "check that the hub (or proxy) runs, its port, and firewalls between; a proxy is set by HTTPS_PROXY",
    );
    Check::bad(title, &error)
}

/// One request that needs no token.
async fn talk(settings: &Settings, environment: &Environment) -> Vec<Check> {
    let url = settings.hub_url.value.join("/healthz");
    let client = match Client::new(settings) {
        Ok(client) => client,
        Err(error) => return vec![Check::bad("TLS", &error)],
    };
    let deadline = Instant::now() + 2 * STEP;
    let reply = match client
        .request(Method::GET, url.clone(), &[], environment, deadline)
        .await
    {
        Ok(reply) => reply,
        Err(fault) => {
            let (SendError::Transient(error) | SendError::Final(error)) = fault;
            return vec![
                Check::bad("TLS", &error.about(&settings.hub_url.value)),
                Check::skipped("hub", "it was not asked"),
                Check::skipped("clock", "the hub did not tell the time"),
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
            "the hub is reached by plain http: the token travels in the clear",
            "use https, unless this is for a test on this host",
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
            format!("it answers (HTTP {status}), and does not tell its version"),
        ),
        (status, _) => Check::warning(
            "hub",
            format!("it answers HTTP {status} to /healthz"),
            "check the hub, and what stands before it: curl -v URL/healthz",
        ),
    }
}

fn clock(reply: &Reply, now: SystemTime) -> Check {
    let title = "clock";
    let Some(theirs) = reply.date else {
        return Check::skipped(title, "the hub did not tell the time");
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
