//! The calls that faults can happen to.

use axum::http::Method;

/// A call that faults can happen to.
#[derive(Clone)]
pub(crate) struct FaultPoint {
    /// The value of `route` in the request for a fault.
    pub(crate) name: &'static str,
    /// Method and route; none for a point within a call, where delays alone happen.
    call: Option<(Method, &'static str)>,
}

impl FaultPoint {
    /// Makes the point of a call, by the route as the router has it.
    pub(crate) const fn new(name: &'static str, method: Method, route: &'static str) -> Self {
        Self {
            name,
            call: Some((method, route)),
        }
    }

    /// Makes a point within a call.
    pub(crate) const fn within(name: &'static str) -> Self {
        Self { name, call: None }
    }

    /// Returns whether a request of this method and route is this call. HEAD is a GET.
    pub(super) fn is_call(&self, method: &Method, route: &str) -> bool {
        let method = match *method {
            Method::HEAD => &Method::GET,
            _ => method,
        };
        self.call
            .as_ref()
            .is_some_and(|(own, at)| own == method && *at == route)
    }
}

/// The calls of hosts to the hub itself.
pub(super) const HUB: &[FaultPoint] = &[
    FaultPoint::new("enrol", Method::POST, "/api/v1/agents/enrol"),
    FaultPoint::new("register", Method::POST, "/api/v1/agents/register"),
    FaultPoint::new("readmit", Method::POST, "/api/v1/agents/readmit"),
    FaultPoint::new("heartbeat", Method::POST, "/api/v1/agents/{id}/heartbeat"),
    FaultPoint::new("delete", Method::DELETE, "/api/v1/agents/{id}"),
    FaultPoint::new("install", Method::GET, "/install.sh"),
    FaultPoint::new("dist", Method::GET, "/dist/{file}"),
];
