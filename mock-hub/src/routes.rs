//! The routes beside the hub's own, and the layer of faults around all of them.

use crate::client_ca::ClientCa;
use crate::faults::{self, Faults};
use crate::state::MockState;
use crate::{dialect, faults::inject};
use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use hub::App;
use std::sync::Arc;

/// Adds the routes of faults and dialects to the hub's own.
pub(crate) fn extend(app: &Arc<App>, client_ca: Arc<ClientCa>, hub: Router) -> Router {
    let points = dialect::ALL.iter().flat_map(|dialect| dialect.fault_points);
    let faults = Arc::new(Faults::new(points));
    let state = MockState {
        app: Arc::clone(app),
        faults: Arc::clone(&faults),
        client_ca,
    };
    let own = Router::new().route(
        "/api/v1/faults",
        get(faults::list).post(faults::add).delete(faults::clear),
    );
    let all = dialect::ALL
        .iter()
        .fold(own, |all, dialect| all.merge((dialect.routes)()));
    hub.merge(all.with_state(state))
        .layer(from_fn_with_state(faults, inject))
}
