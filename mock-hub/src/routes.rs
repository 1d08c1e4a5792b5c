//! Every address of the hub, and what answers there.

use crate::faults::{FaultPoint, Route, strike};
use crate::refusal::Refusal;
use crate::request::read_body;
use crate::{App, agents, dialect, dist, enrol, faults, heartbeat, integrity, register, tokens};
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Json, Router};
use serde::Serialize;
use std::sync::Arc;

pub(crate) fn router(app: Arc<App>) -> Router {
    let faulty = |route, call: MethodRouter<Arc<App>>| {
        let point = FaultPoint {
            app: Arc::clone(&app),
            route,
        };
        call.route_layer(from_fn_with_state(point, strike))
    };
    let agent_calls = Router::new()
        .route(
            "/api/v1/agents/enrol",
            faulty(Route::Enrol, post(enrol::enrol)),
        )
        .route(
            "/api/v1/agents/register",
            faulty(Route::Register, post(register::register)),
        )
        .route(
            "/api/v1/agents/{id}/heartbeat",
            faulty(Route::Heartbeat, post(heartbeat::heartbeat)),
        )
        .route(
            "/api/v1/agents/{id}",
            faulty(Route::Delete, delete(heartbeat::leave)).get(agents::get),
        );
    let mirror = Router::new()
        .route("/install.sh", faulty(Route::Install, get(dist::installer)))
        .route("/dist/{file}", faulty(Route::Dist, get(dist::file)));
    let operator_calls = Router::new()
        .route(
            "/api/v1/enrolment-tokens",
            get(tokens::list).post(tokens::create),
        )
        .route("/api/v1/enrolment-tokens/{id}", get(tokens::get))
        .route("/api/v1/enrolment-tokens/{id}/revoke", post(tokens::revoke))
        .route("/api/v1/enrolment-tokens/{id}/uses", get(tokens::uses))
        .route("/api/v1/agents", get(agents::list).post(agents::create))
        .route(
            "/api/v1/agents/{id}/rotate-token",
            post(agents::rotate_token),
        )
        .route(
            "/api/v1/agents/{id}/rotate-signing-key",
            post(agents::rotate_signing_key),
        )
        .route("/api/v1/integrity", get(integrity::list))
        .route(
            "/api/v1/faults",
            get(faults::list).post(faults::add).delete(faults::clear),
        );
    Router::new()
        .merge(agent_calls)
        .merge(mirror)
        .merge(operator_calls)
        .merge(dialect::routes(&faulty))
        .route("/healthz", get(health))
        .fallback(async || Refusal::not_found("address"))
        .method_not_allowed_fallback(async || Refusal::wrong_method())
        // `read_body` has a limit of its own.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(Arc::clone(&app), read_body))
        .with_state(app)
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    version: &'static str,
}

async fn health() -> Json<Health> {
    Json(Health {
        status: "ok",
        version: env!("CARGO_PKG_VERSION"),
    })
}
