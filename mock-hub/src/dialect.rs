//! The other systems that the hub speaks, beside its own routes: a file each.

mod lyftdata;
mod mimir;
mod ravenxcope;

use crate::App;
use crate::faults::Route;
use axum::Router;
use axum::routing::MethodRouter;
use std::sync::Arc;

/// Lets faults happen to a call.
pub(crate) type Faulty<'a> = &'a dyn Fn(Route, MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>>;

/// The tables of all of them. Each makes what is not there.
pub(crate) const SCHEMAS: &[&str] = &[ravenxcope::SCHEMA, mimir::SCHEMA, lyftdata::SCHEMA];

/// The addresses of all of them.
pub(crate) fn routes(faulty: Faulty<'_>) -> Router<Arc<App>> {
    Router::new()
        .merge(ravenxcope::routes(faulty))
        .merge(mimir::routes(faulty))
        .merge(lyftdata::routes(faulty))
}
