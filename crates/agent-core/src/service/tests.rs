//! The service in paused time: outages of the hub with one host and with a thousand.

mod fleet;
