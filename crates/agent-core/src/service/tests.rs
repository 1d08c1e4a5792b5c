//! The service in paused time: outages of a fleet, and a day of one host.

mod fleet;
