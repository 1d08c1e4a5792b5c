//! Whether the cloud's metadata service still hands out user data that holds an enrolment token.
//!
//! Every process of the host can ask that service. It is asked only where the firmware says which
//! cloud this is, or where its address is given by the variable that the cloud's own tools take;
//! `AWS_EC2_METADATA_DISABLED=true`, as AWS's tools take it, turns it off for every cloud.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::{Method, Url};
use tokio::time::Instant;

use agent_core::check::Check;
use agent_core::environment::Environment;
use agent_core::hub::client::{Client, Reply};
use agent_core::scrub;
use agent_core::settings::Settings;
use agent_core::store::safe_read;

const NAME: &str = "metadata service";
const DISABLED: &str = "AWS_EC2_METADATA_DISABLED";
/// It is on the same machine or on none.
const PATIENCE: Duration = Duration::from_secs(2);

/// A cloud's service.
struct Cloud {
    /// What the firmware calls the maker of the machine.
    vendor: &'static str,
    /// Variable with another address, as the cloud's own tools take it.
    variable: Option<&'static str>,
    /// Where it is.
    default: &'static str,
    /// Where the user data is.
    path: &'static str,
    query: Option<&'static str>,
    header: Option<(&'static str, &'static str)>,
    /// The user data is encoded once more.
    is_base64: bool,
}

/// EC2, whose user data takes a session (`IMDSv2`).
const AWS: Cloud = Cloud {
    vendor: "Amazon EC2",
    variable: Some("AWS_EC2_METADATA_SERVICE_ENDPOINT"),
    path: "/latest/user-data",
    ..PLAIN
};

const PLAIN: Cloud = Cloud {
    vendor: "",
    variable: None,
    default: "http://169.254.169.254",
    path: "",
    query: None,
    header: None,
    is_base64: false,
};

const CLOUDS: [Cloud; 5] = [
    AWS,
    Cloud {
        vendor: "Google",
        variable: Some("GCE_METADATA_HOST"),
        default: "http://metadata.google.internal",
        path: "/computeMetadata/v1/instance/attributes/user-data",
        header: Some(("metadata-flavor", "Google")),
        ..PLAIN
    },
    // Custom data, the older way, is not handed out.
    Cloud {
        vendor: "Microsoft Corporation",
        variable: Some("AZURE_POD_IDENTITY_AUTHORITY_HOST"),
        path: "/metadata/instance/compute/userData",
        query: Some("api-version=2021-01-01&format=text"),
        header: Some(("metadata", "true")),
        is_base64: true,
        ..PLAIN
    },
    Cloud {
        vendor: "Hetzner",
        path: "/hetzner/v1/userdata",
        ..PLAIN
    },
    Cloud {
        vendor: "DigitalOcean",
        path: "/metadata/v1/user-data",
        ..PLAIN
    },
];

pub(super) async fn examine(settings: &Settings, environment: &Environment) -> Check {
    let is_disabled = environment
        .env(DISABLED)
        .is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if is_disabled {
        return Check::skipped(NAME, "AWS_EC2_METADATA_DISABLED is set");
    }
    let Some((cloud, address)) = place(environment) else {
        return Check::skipped(NAME, "no cloud with one is known to run this host");
    };
    let base = match Url::parse(&address) {
        Ok(base) if base.scheme() == "http" && base.host().is_some() => base,
        _ => return Check::skipped(NAME, "the address that was given for it is no http URL"),
    };
    match user_data(cloud, settings, environment, &base).await {
        Answer::Silent => Check::skipped(NAME, "it could not be asked"),
        Answer::Nothing => Check::good(NAME, "it hands out no user data"),
        Answer::Data(bytes) if scrub::has_token(&bytes) => Check::warning(
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

/// Which cloud's service is where.
fn place(environment: &Environment) -> Option<(&'static Cloud, String)> {
    let given = |cloud: &'static Cloud| {
        let value = environment.env(cloud.variable?)?.to_str()?;
        let has_scheme = value.contains("://");
        let scheme = if has_scheme { "" } else { "http://" };
        Some((cloud, format!("{scheme}{value}")))
    };
    CLOUDS.iter().find_map(given).or_else(|| {
        let vendor =
            safe_read::text(&environment.kernel_path("/sys/class/dmi/id/sys_vendor")).ok()?;
        let cloud = CLOUDS.iter().find(|cloud| cloud.vendor == vendor.trim())?;
        Some((cloud, cloud.default.to_owned()))
    })
}

/// What the service said.
pub(crate) enum Answer {
    Silent,
    Nothing,
    Data(Vec<u8>),
}

async fn user_data(
    cloud: &Cloud,
    settings: &Settings,
    environment: &Environment,
    base: &Url,
) -> Answer {
    let Ok(client) = Client::new(settings) else {
        return Answer::Silent;
    };
    let deadline = Instant::now() + PATIENCE;
    let ask = async |method, path: &str, query, header: &[(&str, &str)]| {
        let mut url = base.clone();
        url.set_path(path);
        url.set_query(query);
        client
            .request(method, url, header, environment, deadline)
            .await
            .ok()
    };
    let mut session = String::new();
    if cloud.vendor == AWS.vendor {
        let ttl = ("x-aws-ec2-metadata-token-ttl-seconds", "60");
        let reply = ask(Method::PUT, "/latest/api/token", None, &[ttl]).await;
        let Some(reply) = reply.filter(|reply| reply.status == 200) else {
            return Answer::Silent;
        };
        String::from_utf8_lossy(&reply.body)
            .trim()
            .clone_into(&mut session);
    }
    let session = Some(("x-aws-ec2-metadata-token", session.as_str()));
    let session = session.filter(|(_, session)| !session.is_empty());
    let headers: Vec<_> = session.into_iter().chain(cloud.header).collect();
    match ask(Method::GET, cloud.path, cloud.query, &headers).await {
        Some(reply) => said(&reply, cloud.is_base64),
        None => Answer::Silent,
    }
}

/// Reads the answer to the request for the user data.
pub(crate) fn said(reply: &Reply, is_base64: bool) -> Answer {
    match reply.status {
        200 if is_base64 => {
            let decoded = BASE64_STANDARD.decode(reply.body.trim_ascii());
            // What cannot be decoded as one piece is searched as it is, base64 in lines too.
            Answer::Data(decoded.unwrap_or_else(|_| reply.body.to_vec()))
        }
        200 => Answer::Data(reply.body.to_vec()),
        404 => Answer::Nothing,
        _ => Answer::Silent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_in_base64_in_lines_and_in_what_is_not_base64() {
        let data = "#cloud-config\nruncmd: [MONSYS_TOKEN=enrl_0123456789abcdef sh]\n";
        let whole = BASE64_STANDARD.encode(data);
        let lines = format!("{}\r\n{}\r\n", &whole[..40], &whole[40..]);
        for body in [whole.as_str(), &lines, data] {
            let reply = Reply {
                status: 200,
                body: body.as_bytes().to_vec().into(),
                ..Reply::default()
            };
            let Answer::Data(bytes) = said(&reply, true) else {
                panic!("no user data in {body:?}");
            };
            assert!(scrub::has_token(&bytes), "{body:?}");
        }
    }
}
