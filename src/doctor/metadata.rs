//! The check for an enrolment token in the user data that the cloud's metadata service returns.
//!
//! Every process of the host can send requests to that service. This check does so only if the firmware
//! names the cloud, or if the variable of the cloud's own tools names an address.
//! `AWS_EC2_METADATA_DISABLED=true`, a variable of AWS's tools, disables the check for every cloud.

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
/// The time limit of all requests. The service answers from the same machine, or not at all.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// The metadata service of a cloud.
struct Cloud {
    /// The vendor of the machine, as the firmware names it.
    vendor: &'static str,
    /// The variable of the cloud's own tools for another address.
    variable: Option<&'static str>,
    /// The default address.
    default: &'static str,
    /// The path of the user data.
    path: &'static str,
    query: Option<&'static str>,
    header: Option<(&'static str, &'static str)>,
    /// True if the user data is also encoded in base64.
    is_base64: bool,
}

/// EC2, whose user data needs a session (`IMDSv2`).
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
    // The service does not return custom data, the older kind.
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
        return Check::skipped(
            NAME,
            "this host runs in no cloud with a known metadata service",
        );
    };
    let base = match Url::parse(&address) {
        Ok(base) if base.scheme() == "http" && base.host().is_some() => base,
        _ => {
            return Check::skipped(
                NAME,
                "its address in the environment is not a valid http URL",
            );
        }
    };
    match user_data(cloud, settings, environment, &base).await {
        UserData::Unknown => Check::skipped(NAME, "it did not answer the request"),
        UserData::None => Check::good(NAME, "it has no user data"),
        UserData::Bytes(bytes) if scrub::has_token(&bytes) => Check::warning(
            NAME,
            "it returns an enrolment token to every process of this host",
            "fetch the token by --token-command instead of from user data; revoke this token when all hosts are enrolled",
        ),
        UserData::Bytes(_) => Check::good(NAME, "its user data contains no enrolment token"),
    }
}

/// Returns the cloud and the address of its service.
fn place(environment: &Environment) -> Option<(&'static Cloud, String)> {
    let by_variable = |cloud: &'static Cloud| {
        let value = environment.env(cloud.variable?)?.to_str()?;
        let has_scheme = value.contains("://");
        let scheme = if has_scheme { "" } else { "http://" };
        Some((cloud, format!("{scheme}{value}")))
    };
    CLOUDS.iter().find_map(by_variable).or_else(|| {
        let vendor =
            safe_read::text(&environment.kernel_path("/sys/class/dmi/id/sys_vendor")).ok()?;
        let cloud = CLOUDS.iter().find(|cloud| cloud.vendor == vendor.trim())?;
        Some((cloud, cloud.default.to_owned()))
    })
}

/// The user data of this host, as the service returns it.
pub(crate) enum UserData {
    /// The service did not answer, or refused the request.
    Unknown,
    /// The host has no user data.
    None,
    /// The content of the user data.
    Bytes(Vec<u8>),
}

async fn user_data(
    cloud: &Cloud,
    settings: &Settings,
    environment: &Environment,
    base: &Url,
) -> UserData {
    let Ok(client) = Client::new(settings) else {
        return UserData::Unknown;
    };
    let deadline = Instant::now() + TIME_LIMIT;
    let send = async |method, path: &str, query, header: &[(&str, &str)]| {
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
        let reply = send(Method::PUT, "/latest/api/token", None, &[ttl]).await;
        let Some(reply) = reply.filter(|reply| reply.status == 200) else {
            return UserData::Unknown;
        };
        String::from_utf8_lossy(&reply.body)
            .trim()
            .clone_into(&mut session);
    }
    let session = Some(("x-aws-ec2-metadata-token", session.as_str()));
    let session = session.filter(|(_, session)| !session.is_empty());
    let headers: Vec<_> = session.into_iter().chain(cloud.header).collect();
    match send(Method::GET, cloud.path, cloud.query, &headers).await {
        Some(reply) => user_data_in(&reply, cloud.is_base64),
        None => UserData::Unknown,
    }
}

/// Reads the user data from the response of the service.
pub(crate) fn user_data_in(reply: &Reply, is_base64: bool) -> UserData {
    match reply.status {
        200 if is_base64 => {
            let decoded = BASE64_STANDARD.decode(reply.body.trim_ascii());
            // Other data is searched as it is. The search also decodes base64 in lines.
            UserData::Bytes(decoded.unwrap_or_else(|_| reply.body.to_vec()))
        }
        200 => UserData::Bytes(reply.body.to_vec()),
        404 => UserData::None,
        _ => UserData::Unknown,
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
            let UserData::Bytes(bytes) = user_data_in(&reply, true) else {
                panic!("no user data in {body:?}");
            };
            assert!(scrub::has_token(&bytes), "{body:?}");
        }
    }
}
