//! The state of the handlers beside the hub's own.

use crate::client_ca::ClientCa;
use crate::faults::Faults;
use axum::extract::FromRef;
use hub::App;
use std::sync::Arc;

/// The state of the handlers beside the hub's own. A handler takes the part that it needs.
#[derive(Clone)]
pub(crate) struct MockState {
    pub(crate) app: Arc<App>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) client_ca: Arc<ClientCa>,
}

impl FromRef<MockState> for Arc<App> {
    fn from_ref(state: &MockState) -> Self {
        Self::clone(&state.app)
    }
}

impl FromRef<MockState> for Arc<Faults> {
    fn from_ref(state: &MockState) -> Self {
        Self::clone(&state.faults)
    }
}

impl FromRef<MockState> for Arc<ClientCa> {
    fn from_ref(state: &MockState) -> Self {
        Self::clone(&state.client_ca)
    }
}
