//! A mock hub in the process of the test.

use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use mock_hub::{Hub, Options};

use super::Operator;

/// A hub of one test.
pub(crate) struct TestHub {
    operator: Operator,
    hub: Option<Hub>,
}

impl TestHub {
    /// Starts a hub with TLS.
    pub(crate) fn new() -> Self {
        Self::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        let runtime = Operator::runtime();
        let hub = runtime.block_on(mock_hub::start(options)).unwrap();
        Self {
            operator: Operator::new(runtime, hub.url(), hub.ca_file(), hub.admin_token()),
            hub: Some(hub),
        }
    }

    fn hub(&self) -> &Hub {
        self.hub.as_ref().unwrap()
    }

    pub(crate) fn ca_file(&self) -> Option<PathBuf> {
        self.hub().ca_file().map(PathBuf::from)
    }

    pub(crate) fn ca_pin(&self) -> String {
        self.hub().ca_pin().unwrap().to_owned()
    }

    pub(crate) fn advance_clock(&self, by: Duration) {
        self.hub().advance_clock(by);
    }

    /// Sets the hub's wall clock forward or back, independent of the passage of time.
    pub(crate) fn set_clock_by(&self, seconds: i64) {
        self.hub().set_clock_by(seconds * 1000);
    }
}

impl Deref for TestHub {
    type Target = Operator;

    fn deref(&self) -> &Operator {
        &self.operator
    }
}

impl Drop for TestHub {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.take() {
            self.operator.runtime.block_on(hub.stop());
        }
    }
}
