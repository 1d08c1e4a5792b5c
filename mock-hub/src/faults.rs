//! Faults on request: responses that are late, replaced, changed, cut, or lost after the commit.
//!
//! A call that faults can happen to is a `point`. A `request` for a fault becomes an `effect`, which
//! is `pending` until the middleware `apply` lets it happen. This file has the operator's calls.

mod apply;
mod effect;
mod pending;
mod point;
mod request;

pub(crate) use apply::inject;
pub(crate) use pending::Faults;
pub(crate) use point::FaultPoint;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use hub::body::JsonBody;
use hub::refusal::Refusal;
use hub::request::Admin;
use request::{Fault, FaultRequest};
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;

const MAX_PENDING: usize = 1_000;

/// The pending faults on the wire.
#[derive(Serialize)]
pub(crate) struct PendingFaults {
    faults: Vec<Value>,
}

impl PendingFaults {
    fn of(faults: &[Fault]) -> Json<Self> {
        let faults = faults.iter().map(|fault| fault.request.to_json()).collect();
        Json(Self { faults })
    }
}

/// `GET /api/v1/faults`
pub(crate) async fn list(_: Admin, State(faults): State<Arc<Faults>>) -> Json<PendingFaults> {
    faults.with(|faults| PendingFaults::of(faults))
}

/// `POST /api/v1/faults`: adds a fault behind those of its route, or with `"times": 0` removes all of
/// that route. The response lists the pending faults.
pub(crate) async fn add(
    _: Admin,
    State(faults): State<Arc<Faults>>,
    body: JsonBody<FaultRequest>,
) -> Result<(StatusCode, Json<PendingFaults>), Refusal> {
    let fault = body.value;
    faults
        .check_route(&fault.request.route)
        .map_err(Refusal::invalid)?;
    faults.with(|faults| {
        let status = if fault.request.times == 0 {
            faults.retain(|pending| pending.request.route != fault.request.route);
            StatusCode::OK
        } else if faults.len() < MAX_PENDING {
            faults.push(fault);
            StatusCode::CREATED
        } else {
            return Err(Refusal::invalid(format!(
                "there are {MAX_PENDING} pending faults: clear some first"
            )));
        };
        Ok((status, PendingFaults::of(faults)))
    })
}

/// `DELETE /api/v1/faults`
pub(crate) async fn clear(_: Admin, State(faults): State<Arc<Faults>>) -> StatusCode {
    faults.with(Vec::clear);
    StatusCode::NO_CONTENT
}
