//! The hub with all that this crate adds to it.

use crate::client_ca::ClientCa;
use crate::{dialect, routes};
use hub::{Error, Extension, Hub, Options};
use std::sync::Arc;

/// Starts a hub on the current tokio runtime. The hub answers as soon as this returns.
pub async fn start(options: Options) -> Result<Hub, Error> {
    let client_ca = Arc::new(ClientCa::prepare(options.tls_dir.as_deref())?);
    let extension = Extension {
        tables: dialect::ALL.iter().map(|dialect| dialect.tables).collect(),
        client_certificates: Some(client_ca.verifier()?),
        routes: Box::new(|app, routes| routes::extend(app, client_ca, routes)),
    };
    hub::start(options, extension).await
}
