//! Tokens, which are parsed once and never printed.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

use crate::error::{Error, ErrorId, Result};

/// Longest token that is accepted, in bytes.
pub const MAX_BYTES: usize = 512;

/// A secret of the user, with its kind.
#[derive(Debug)]
pub enum Token {
    /// Enrolment token, `enrl_…`, for several hosts: exchanged for a per-agent token, never stored.
    Enrolment(Secret),
    /// Per-agent token, `agt_…` or `ms_…`: stored as it is.
    Agent(Secret),
}

/// Secret text: zeroed when dropped, redacted in `Debug`.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Token {
    /// Parses `raw`, which came from `source` (a flag or variable, for the message), as a token.
    ///
    /// Surrounding white space is removed: clipboards and `echo` add it.
    ///
    /// # Errors
    /// [`ErrorId::TokenMalformed`], which never repeats the token.
    pub fn parse(raw: &str, source: &dyn fmt::Display) -> Result<Self> {
        let text = raw.trim();
        if let Some(fault) = fault(text) {
            return Err(Error::new(ErrorId::TokenMalformed, fault).about(source));
        }
        let secret = Secret(SecretString::from(text));
        if text.starts_with("enrl_") {
            Ok(Self::Enrolment(secret))
        } else {
            Ok(Self::Agent(secret))
        }
    }

    /// Parses `raw`, which came from `source`, as the secret of a dialect whose secrets have no prefix. Like an
    /// enrolment token, it is exchanged for a credential and never stored.
    ///
    /// # Errors
    /// [`ErrorId::TokenMalformed`], which never repeats the secret.
    pub fn shared(raw: &str, source: &dyn fmt::Display) -> Result<Self> {
        let text = raw.trim();
        let fault = if text.len() > MAX_BYTES {
            format!("it has more than {MAX_BYTES} bytes")
        } else if text.chars().any(char::is_control) {
            "it contains a line break or another control character".into()
        } else {
            return Ok(Self::Enrolment(Secret(SecretString::from(text))));
        };
        Err(Error::new(ErrorId::TokenMalformed, fault)
            .about(source)
            .hint("copy the secret again from its place of issue, and run the same command"))
    }

    /// Returns the kind of the token.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Enrolment(_) => Kind::Enrolment,
            Self::Agent(_) => Kind::Agent,
        }
    }

    /// Returns the secret of either kind.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        match self {
            Self::Enrolment(secret) | Self::Agent(secret) => secret,
        }
    }
}

/// The kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `enrl_…`
    Enrolment,
    /// `agt_…` or `ms_…`
    Agent,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enrolment => "enrolment token",
            Self::Agent => "per-agent token",
        })
    }
}

/// Returns the reason why `text` is not a token, if it is not.
fn fault(text: &str) -> Option<String> {
    if text.len() > MAX_BYTES {
        return Some(format!(
            "it has {} bytes, and a token has at most {MAX_BYTES}",
            text.len()
        ));
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Some("it contains a space, a line break or another control character".into());
    }
    if !text.is_ascii() {
        return Some("it contains a character that is not ASCII".into());
    }
    let prefixes = ["enrl_", "agt_", "ms_"];
    match prefixes.iter().find_map(|p| text.strip_prefix(p)) {
        Some("") => Some("it is only a prefix".into()),
        Some(_) => None,
        None if prefixes
            .iter()
            .any(|p| text.to_ascii_lowercase().starts_with(p)) =>
        {
            Some("its prefix is in capitals; prefixes are lower case".into())
        }
        None => Some(
            "it begins neither with `enrl_` (enrolment token) nor with `agt_` or `ms_` (per-agent token)"
                .into(),
        ),
    }
}

impl Secret {
    /// Parses a per-agent token of the hub's response.
    ///
    /// # Errors
    /// The reason why the token is not valid, without repeating the token.
    pub fn per_agent(text: &str) -> std::result::Result<Self, String> {
        match fault(text) {
            Some(fault) => Err(fault),
            None if text.starts_with("enrl_") => Err("it is an enrolment token".into()),
            None => Ok(Self(SecretString::from(text))),
        }
    }

    /// Parses a credential from the response, or the files, of a dialect whose credentials have no prefix.
    ///
    /// # Errors
    /// The reason why the credential is not valid, without repeating it.
    pub fn opaque(text: &str) -> std::result::Result<Self, String> {
        if text.is_empty() {
            return Err("it is empty".into());
        }
        if text.len() > 8 * MAX_BYTES || !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err(
                "it is longer than 4 KiB, or contains a character that is not printable ASCII"
                    .into(),
            );
        }
        Ok(Self(SecretString::from(text)))
    }

    /// Returns the secret text. Search for this name to find every use of a secret.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(raw: &str) -> Result<Token> {
        Token::parse(raw, &"MONSYS_TOKEN")
    }

    #[test]
    fn knows_both_kinds_and_trims() {
        assert!(
            matches!(parse(" enrl_a1\r\n"), Ok(Token::Enrolment(s)) if s.expose_secret() == "enrl_a1")
        );
        assert!(matches!(parse("agt_b2"), Ok(Token::Agent(_))));
        assert!(matches!(parse("\tms_c3"), Ok(Token::Agent(_))));
    }

    #[test]
    fn refuses_the_rest_and_names_the_source() {
        let long = format!("enrl_{}", "a".repeat(MAX_BYTES));
        for raw in [
            "",
            "enrl_",
            "ENRL_abc",
            "Enrl_abc",
            "token",
            "enrl-abc",
            "enrl_a b",
            "enrl_a\nb",
            "enrl_a\0b",
            "enrl_é",
            "xenrl_a",
            &long,
        ] {
            let error = parse(raw).unwrap_err();
            assert_eq!(error.exit_code(), 64, "{raw:?}");
            assert!(error.what().contains("MONSYS_TOKEN"));
            assert!(error.next_step().contains("enrl_") && error.next_step().contains("agt_"));
        }
        assert!(parse(&long[..MAX_BYTES]).is_ok());
    }

    #[test]
    fn debug_shows_nothing() {
        let token = parse("enrl_verysecret").unwrap();
        assert_eq!(format!("{token:?}"), "Enrolment([redacted])");
    }

    proptest! {
        #[test]
        fn never_panics_and_never_repeats_the_token(raw in "\\PC{0,600}") {
            if let Err(error) = parse(&raw) {
                let trimmed = raw.trim();
                prop_assert!(trimmed.len() < 12 || !error.to_string().contains(trimmed));
            }
        }
    }
}
