//! Whether the cloud's metadata service still hands out user data that holds an enrolment token.
//!
//! Every process of the host can ask that service. It is asked only where the firmware says that
//! there is one, or where its address is given; `AWS_EC2_METADATA_DISABLED=true` turns it off, as
//! in AWS's own tools.

use std::time::Duration;

use reqwest::{Method, Url};
use tokio::time::Instant;

use super::Check;
use crate::hub::client::Client;
use crate::settings::Settings;
use crate::store::read;
use crate::world::World;

const NAME: &str = "metadata service";
const ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
const DISABLED: &str = "AWS_EC2_METADATA_DISABLED";
const DEFAULT: &str = "http://169.254.169.254";
/// It is on the same machine or on none.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) async fn examine(settings: &Settings, world: &World) -> Check {
    let is_disabled = world
        .env(DISABLED)
        .is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let endpoint = match world.env(ENDPOINT).and_then(|value| value.to_str()) {
        _ if is_disabled => return Check::skipped(NAME, "AWS_EC2_METADATA_DISABLED is set"),
        Some(endpoint) => endpoint,
        None if is_ec2(world) => DEFAULT,
        None => return Check::skipped(NAME, "no cloud with one is known to run this host"),
    };
    let base = match Url::parse(endpoint) {
        Ok(base) if base.scheme() == "http" && base.host().is_some() => base,
        _ => return Check::skipped(NAME, "AWS_EC2_METADATA_SERVICE_ENDPOINT is no http URL"),
    };
    match user_data(settings, world, &base).await {
        Answer::Silent => Check::skipped(NAME, "it could not be asked"),
        Answer::Nothing => Check::good(NAME, "it hands out no user data"),
        Answer::Data(bytes) if bytes.windows(5).any(|window| window == b"enrl_") => Check::warning(
            NAME,
            "it hands out an enrolment token to every process of this host",
            "give the token by reference (--token-command) instead of in user data; revoke this one when the batch is done",
        ),
        Answer::Data(_) => Check::good(
            NAME,
            "the user data that it hands out holds no enrolment token",
        ),
    }
}

/// What the service said.
enum Answer {
    Silent,
    Nothing,
    Data(Vec<u8>),
}

/// `IMDSv2`: a session token first, then the data with it.
async fn user_data(settings: &Settings, world: &World, base: &Url) -> Answer {
    let Ok(client) = Client::new(settings) else {
        return Answer::Silent;
    };
    let deadline = Instant::now() + PATIENCE;
    let ask = async |method, path: &str, header: (&str, &str)| {
        let mut url = base.clone();
        url.set_path(path);
        client
            .ask(method, url, &[header], world, deadline)
            .await
            .ok()
    };
    let ttl = ("x-aws-ec2-metadata-token-ttl-seconds", "60");
    let session = ask(Method::PUT, "/latest/api/token", ttl).await;
    let Some(session) = session.filter(|reply| reply.status == 200) else {
        return Answer::Silent;
    };
    let session = String::from_utf8_lossy(&session.body).trim().to_owned();
    let header = ("x-aws-ec2-metadata-token", session.as_str());
    match ask(Method::GET, "/latest/user-data", header).await {
        Some(reply) if reply.status == 200 => Answer::Data(reply.body.to_vec()),
        Some(reply) if reply.status == 404 => Answer::Nothing,
        _ => Answer::Silent,
    }
}

fn is_ec2(world: &World) -> bool {
    read::text(&world.kernel_path("/sys/class/dmi/id/sys_vendor"))
        .is_ok_and(|vendor| vendor.trim() == "Amazon EC2")
}
