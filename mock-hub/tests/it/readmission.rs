//! Readmission: a hub that has lost its database takes its agents back, and only those.

mod refusals;
mod returns;
mod revocations;
pub(crate) mod site;
