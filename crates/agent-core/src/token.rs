//! Tokens: parsed once, never guessed, never shown.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

use crate::error::{Error, ErrorId, Result};

/// Longest token that is accepted, in bytes.
pub const MAX_BYTES: usize = 512;

/// A secret that the user gave, of known kind.
#[derive(Debug)]
pub enum Token {
    /// Multi-use enrolment token, `enrl_…`: exchanged for a per-agent token, never stored.
    Enrolment(Secret),
    /// Per-agent token, `agt_…` or `ms_…`: stored as it is.
    Agent(Secret),
}

/// Secret text: zeroed when dropped, redacted in `Debug`.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Token {
    /// Takes `raw` from `origin` (a flag or variable, for the message) as a token.
    ///
    /// Surrounding white space is trimmed: clipboards and `echo` add it.
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

    /// Takes `raw` from `origin` as the secret of a system whose secrets have no prefix: it is
    /// exchanged for a credential, and never stored, as an enrolment token is.
    ///
    /// # Errors
    /// [`ErrorId::TokenMalformed`], which never repeats the secret.
    pub fn shared(raw: &str, source: &dyn fmt::Display) -> Result<Self> {
        let text = raw.trim();
        let fault = if text.len() > MAX_BYTES {
            format!("it has more than {MAX_BYTES} bytes")
        } else if text.chars().any(char::is_control) {
            "it has a line break or a control character inside".into()
        } else {
            return Ok(Self::Enrolment(Secret(SecretString::from(text))));
        };
        Err(Error::new(ErrorId::TokenMalformed, fault)
            .about(source)
            .hint("copy it again from where it was made, and run the same command"))
    }

    /// What kind it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Enrolment(_) => Kind::Enrolment,
            Self::Agent(_) => Kind::Agent,
        }
    }

    /// The secret, of whatever kind.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        match self {
            Self::Enrolment(secret) | Self::Agent(secret) => secret,
        }
    }
}

/// Kind of a token.
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

/// What is wrong with `text` as a token, if anything.
fn fault(text: &str) -> Option<String> {
    if text.len() > MAX_BYTES {
        return Some(format!(
            "it has {} bytes, and a token has at most {MAX_BYTES}",
            text.len()
        ));
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Some("it has a space, a line break or a control character inside".into());
    }
    if !text.is_ascii() {
        return Some("it has a character that is not ASCII".into());
    }
    let prefixes = ["enrl_", "agt_", "ms_"];
    match prefixes.iter().find_map(|p| text.strip_prefix(p)) {
        Some("") => Some("it is a prefix with nothing behind it".into()),
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
    /// A per-agent token out of the hub's answer.
    ///
    /// # Errors
    /// What is wrong with it, in words that do not repeat it.
    pub fn per_agent(text: &str) -> std::result::Result<Self, String> {
        match fault(text) {
            Some(fault) => Err(fault),
            None if text.starts_with("enrl_") => Err("it is an enrolment token".into()),
            None => Ok(Self(SecretString::from(text))),
        }
    }

    /// A credential out of the answer, or the files, of a system whose credentials have no prefix.
    ///
    /// # Errors
    /// What is wrong with it, in words that do not repeat it.
    pub fn opaque(text: &str) -> std::result::Result<Self, String> {
        if text.is_empty() {
            return Err("it is empty".into());
        }
        if text.len() > 8 * MAX_BYTES || !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err(
                "it is longer than 4 KiB, or has a character that is not printable ASCII".into(),
            );
        }
        Ok(Self(SecretString::from(text)))
    }

    /// The secret itself. Grep for this name to see every place that handles it.
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
    fn refuses_the_rest_and_names_where_it_came_from() {
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
