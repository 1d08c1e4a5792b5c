//! The wire format of a Mimir server, and its rejections in the words of Mimir's documentation.
//!
//! The documentation names neither paths nor fields. Those of the enrolment are the contract's, and those
//! of the other two calls are the agent's own.

use std::time::SystemTime;

use reqwest::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::Zeroizing;

use agent_core::error::{Error, ErrorId};
use agent_core::escape::is_hidden;
use agent_core::hub::client::{Reply, Request};
use agent_core::settings::HubUrl;
use agent_core::token::Secret;

/// Path of the exchange of a secret for a certificate.
pub(crate) const ENROLL: &str = "/api/v1/enroll";
/// Path of the proof of a certificate.
pub(crate) const MYSELF: &str = "/api/v1/agent/self";
/// Path of the renewal of a certificate.
pub(crate) const RENEW: &str = "/api/v1/agent/renew";

/// The body of an enrolment.
#[derive(Serialize)]
struct Enroll<'a> {
    enrollment_secret: &'a str,
    hostname: &'a str,
    csr: &'a str,
}

/// The response with a certificate.
#[derive(Deserialize)]
pub(crate) struct Certified {
    pub(crate) agent_id: String,
    pub(crate) certificate_pem: String,
    pub(crate) ca_pem: String,
    /// The time by the server's clock.
    #[serde(skip)]
    pub(crate) date: Option<SystemTime>,
}

/// Returns the request for the first certificate.
pub(crate) fn enroll(hub: &HubUrl, secret: &Secret, hostname: &str, csr: &str) -> Request<'static> {
    let enroll = Enroll {
        enrollment_secret: secret.expose_secret(),
        hostname,
        csr,
    };
    // The buffer has room for the entire body, so that it leaves no copy of the secret behind by growing.
    let mut body = Zeroizing::new(Vec::with_capacity(32 * 1024));
    // Strings always have a JSON form, and a write to memory cannot fail.
    let _ = serde_json::to_writer(&mut *body, &enroll);
    request(Method::POST, hub, ENROLL, body)
}

/// Returns the request that proves a certificate, which is sent under that certificate.
pub(crate) fn myself(hub: &HubUrl) -> Request<'static> {
    request(Method::GET, hub, MYSELF, Zeroizing::default())
}

/// Returns the request for a new certificate, which is sent under the present one.
pub(crate) fn renew(hub: &HubUrl, csr: &str) -> Request<'static> {
    let body = json!({"csr": csr}).to_string().into_bytes();
    request(Method::POST, hub, RENEW, body.into())
}

fn request(method: Method, hub: &HubUrl, path: &str, body: Zeroizing<Vec<u8>>) -> Request<'static> {
    Request {
        method,
        url: hub.join(path),
        bearer: None,
        signature: None,
        body,
    }
}

/// Reads the response with a certificate.
///
/// # Errors
/// The part of the response that is not of this protocol.
pub(crate) fn certified(reply: &Reply) -> Result<Certified, String> {
    let certified: Certified = body(reply)?;
    check_id(&certified.agent_id)?;
    let date = reply.date;
    Ok(Certified { date, ..certified })
}

/// Reads the agent id in the response to a proof.
///
/// # Errors
/// The part of the response that is not of this protocol.
pub(crate) fn known_as(reply: &Reply) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Myself {
        agent_id: String,
    }
    let Myself { agent_id } = body(reply)?;
    check_id(&agent_id)?;
    Ok(agent_id)
}

/// Checks an agent id. No document defines its form; the agent requires an id that people can read and copy.
fn check_id(id: &str) -> Result<(), String> {
    if id.is_empty() || id.len() > 128 || id.contains(is_hidden) || id.trim() != id {
        return Err(
            "`agent_id` is not 1 to 128 bytes without control or invisible character, or has white space at an end".into(),
        );
    }
    Ok(())
}

fn body<T: DeserializeOwned>(reply: &Reply) -> Result<T, String> {
    match reply.media_type.as_deref() {
        Some("application/json") => {
            serde_json::from_slice(&reply.body).map_err(|error| {
                // The parser's message could repeat a value, such as the secret, at any length.
                let problem = if error.is_data() {
                    "lacks a field, or has one of the wrong type"
                } else {
                    "is not JSON"
                };
                let (line, column) = (error.line(), error.column());
                format!("the response {problem} (line {line}, column {column})")
            })
        }
        other => Err(format!(
            "the response is {:?}, not application/json: a portal or a proxy may answer in the server's place",
            other.unwrap_or("of no media type")
        )),
    }
}

/// Rewords the rejection of an enrolment.
pub(crate) fn explain_rejection(error: Error) -> Error {
    let subject = error.subject().unwrap_or_default().to_owned();
    match error.id() {
        ErrorId::Rejected => Error::new(
            ErrorId::Rejected,
            "the server answered 401 `unauthorized`, which has three causes. In order of frequency: the secret was revoked; its cap is exhausted; it was copied incorrectly",
        )
        .about(subject)
        .hint("an operator looks at Settings, Enrollment: when the secret is among the Revoked secrets, or its Uses are N / N, mint a new secret, otherwise copy it again; then run the same command with it"),
        ErrorId::Forbidden if error.cause().contains("secret_exhausted") => Error::new(
            ErrorId::Forbidden,
            "the server answered 403 `secret_exhausted`: another agent took the last use of the secret at the same moment",
        )
        .about(subject)
        .hint("an operator mints a new secret, or one with a higher Max uses (Settings, Enrollment); run the same command with it"),
        _ => error,
    }
}

/// Rewords the rejection of a client certificate.
pub(crate) fn explain_unknown_certificate(error: Error) -> Error {
    if error.id() != ErrorId::Rejected {
        return error;
    }
    let subject = error.subject().unwrap_or_default().to_owned();
    let cause = if error.cause().contains("TLS") {
        error.cause()
    } else {
        "the server answered 401 to this host's client certificate: the agent was removed there, or the certificate has expired by the server's clock"
    };
    Error::new(ErrorId::Rejected, cause)
        .about(subject)
        .hint("see the server's log for client-cert errors; to enrol again: MIMIR_ENROLLMENT_SECRET=… monsys-agent enrol --dialect mimir --force")
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_core::sourced::Source;
    use agent_core::token::Token;
    use serde_json::Value;

    #[test]
    fn a_secret_is_sent_as_it_was_copied() {
        let hub = HubUrl::parse("https://hub/base/", false, &Source::Default).unwrap();
        for secret in ["s3cret", r#"a"b\c d"#, "übergeheim"] {
            let Ok(Token::Enrolment(given)) = Token::shared(&format!(" {secret}\n"), &"test")
            else {
                panic!("{secret}");
            };
            let request = enroll(&hub, &given, "web-1", "-----BEGIN\n");
            assert_eq!(request.url.as_str(), "https://hub/base/api/v1/enroll");
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            let expected =
                json!({"enrollment_secret": secret, "hostname": "web-1", "csr": "-----BEGIN\n"});
            assert_eq!(body, expected);
        }
    }

    #[test]
    fn an_answer_that_is_not_understood_is_not_repeated() {
        for body in [
            "\"s3cret-of-the-fleet\"".to_owned(),
            format!("\"{}\"", "s3cret-of-the-fleet".repeat(10_000)),
            r#"{"agent_id": {"s3cret-of-the-fleet": 1}}"#.to_owned(),
            "s3cret-of-the-fleet".to_owned(),
        ] {
            let reply = Reply {
                media_type: Some("application/json".into()),
                body: body.into_bytes().into(),
                ..Reply::default()
            };
            let cause = known_as(&reply).unwrap_err();
            assert!(!cause.contains("s3cret") && cause.len() < 200, "{cause}");
            assert!(cause.contains("line 1"), "{cause}");
        }
    }

    #[test]
    fn an_id_can_be_read_and_copied() {
        let id = |id: &str| {
            let reply = Reply {
                media_type: Some("application/json".into()),
                body: json!({"agent_id": id}).to_string().into_bytes().into(),
                ..Reply::default()
            };
            known_as(&reply)
        };
        assert_eq!(id("host 7").as_deref(), Ok("host 7"));
        for bad in [
            "",
            " ",
            " host-7",
            "host-7\u{3000}",
            "a\u{202e}",
            &"a".repeat(129),
        ] {
            assert!(id(bad).is_err(), "{bad:?}");
        }
    }
}
