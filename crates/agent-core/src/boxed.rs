//! Futures in a box.

use std::pin::Pin;

/// A future whose code is in the crate of the function that returns it. The code of an `async fn` is in each crate that
/// awaits it: five times for the requests of an enrolment.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;
