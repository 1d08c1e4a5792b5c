//! Additions of a program to the hub.

use crate::app::App;
use axum::Router;
use rustls::server::danger::ClientCertVerifier;
use std::sync::Arc;

/// A function that takes the hub's own routes and returns those to serve: with more routes, or with
/// a layer around all of them. A layer sees a request after its body has been read.
pub type ExtendRoutes = Box<dyn FnOnce(&Arc<App>, Router) -> Router + Send>;

/// Additions of a program to the hub. The default adds nothing.
///
/// ```no_run
/// use axum::{Router, routing::get};
///
/// # async fn example() -> Result<(), hub::Error> {
/// let extension = hub::Extension {
///     tables: vec!["CREATE TABLE IF NOT EXISTS visits (at INTEGER NOT NULL) STRICT;"],
///     routes: Box::new(|_app, hub: Router| hub.route("/hello", get(async || "hello"))),
///     ..hub::Extension::default()
/// };
/// let hub = hub::start(hub::Options::default(), extension).await?;
/// # hub.stop().await;
/// # Ok(())
/// # }
/// ```
pub struct Extension {
    /// SQL of further tables. It runs at each start, so it creates only what does not exist.
    pub tables: Vec<&'static str>,
    /// Verifies client certificates. Without one, the hub requests no certificate.
    pub client_certificates: Option<Arc<dyn ClientCertVerifier>>,
    /// Extends the hub's own routes.
    pub routes: ExtendRoutes,
}

impl Default for Extension {
    fn default() -> Self {
        Self {
            tables: Vec::new(),
            client_certificates: None,
            routes: Box::new(|_, routes| routes),
        }
    }
}
