//! Work that may block, in a thread of its own.

use std::io;

use tokio::sync::oneshot;

/// Runs `work` in a thread, and returns its result. When the caller stops waiting, the thread ends with its work or
/// with the process.
///
/// The threads of the runtime are not used for that: it panics when the system starts no thread (`RLIMIT_NPROC`, or
/// the memory of a cgroup).
///
/// # Errors
/// The system's error, when it starts no thread.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (sender, receiver) = oneshot::channel();
    let started = std::thread::Builder::new().spawn(move || {
        // The caller may not wait any more.
        let _ = sender.send(work());
    });
    started
        .map_err(|error| io::Error::new(error.kind(), format!("no thread was started: {error}")))?;
    receiver.await.map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn returns_the_result_of_the_work() {
        assert_eq!(run(|| 1 + 1).await.unwrap(), 2);
    }
}
