//! The id of a sensor in a path.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use hub::refusal::Refusal;

/// The `{id}` of the path: 1 to 128 letters, digits, `.`, `_` and `-`. Anything else is a 404.
pub(super) struct SensorId(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for SensorId {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        Path::<String>::from_request_parts(parts, state)
            .await
            .ok()
            .map(|Path(id)| id)
            .filter(|id| (1..=128).contains(&id.len()) && id.bytes().all(is_allowed))
            .map(Self)
            .ok_or_else(no_sensor)
    }
}

/// Returns the 404 of an unknown sensor.
pub(super) fn no_sensor() -> Refusal {
    Refusal::not_found("sensor")
}
