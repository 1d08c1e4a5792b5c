//! The hub's addresses and the handlers behind them.

use crate::app::App;
use crate::body::read_body;
use crate::refusal::Refusal;
use crate::{
    agents, deleted_agents, dist, enrol, heartbeat, integrity, readmission, register, tokens,
    unenrol,
};
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::Serialize;
use std::sync::Arc;

/// Returns the hub's own routes.
pub(crate) fn own(app: &Arc<App>) -> Router {
    let agent_calls = Router::new()
        .route("/api/v1/agents/enrol", post(enrol::enrol))
        .route("/api/v1/agents/register", post(register::register))
        .route("/api/v1/agents/readmit", post(readmission::readmit))
        .route("/api/v1/agents/{id}/heartbeat", post(heartbeat::heartbeat))
        .route(
            "/api/v1/agents/{id}",
            delete(unenrol::unenrol).get(agents::get),
        );
    let mirror = Router::new()
        .route("/install.sh", get(dist::installer))
        .route("/dist/{file}", get(dist::file));
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
        .route("/api/v1/agents/{id}/allow", post(deleted_agents::allow))
        .route(
            "/api/v1/readmission",
            get(readmission::view)
                .post(readmission::open)
                .delete(readmission::close),
        )
        .route("/api/v1/integrity", get(integrity::list))
        .route("/api/v1/integrity/{id}/resolve", post(integrity::resolve));
    Router::new()
        .merge(agent_calls)
        .merge(mirror)
        .merge(operator_calls)
        .route("/healthz", get(health))
        .with_state(Arc::clone(app))
}

/// Adds what holds for every route: limits of the body, and the answer to an unknown address or
/// method.
pub(crate) fn served(app: &Arc<App>, routes: Router) -> Router {
    routes
        .fallback(async || Refusal::not_found("address"))
        .method_not_allowed_fallback(async || Refusal::wrong_method())
        // `read_body` has a limit of its own.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(Arc::clone(app), read_body))
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
