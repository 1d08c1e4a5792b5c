//! The parts that the demo (`cargo xtask demo`) and the load test (`cargo xtask load`) share: a mock hub
//! as a child process, and the operator's calls to it.

pub mod hub;
