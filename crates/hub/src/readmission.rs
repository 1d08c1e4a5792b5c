//! Readmission: a hub that has lost its database takes its agents back by their receipts, while the
//! operator holds the door open.

mod door;
mod readmit;

pub(crate) use door::{close, open, shut_after_loss, view};
pub(crate) use readmit::readmit;
