//! How long an attempt and its parts may take.

use std::time::{Duration, Instant};

use tokio::time::timeout;

/// What the user allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// For the TCP connection to a chain's first proxy.
    pub(crate) connect: Duration,
    /// For each of: TLS with a proxy, its greeting, the answer of one that is not a chain's last.
    pub(crate) handshake: Duration,
    /// For the whole.
    pub(crate) whole: Duration,
}

impl Timeouts {
    /// Begins an attempt.
    pub(crate) fn begin(self) -> Limits {
        let Self { connect, handshake, whole } = self;
        Limits { connect, handshake, whole, end: Instant::now() + whole }
    }
}

/// The limits of one attempt, which has begun when they are made.
pub(crate) struct Limits {
    /// For the TCP connection to a chain's first proxy.
    pub(crate) connect: Duration,
    /// For what a proxy owes us itself: TLS, its greeting; and the answer of one that is not the last.
    pub(crate) handshake: Duration,
    whole: Duration,
    end: Instant,
}

impl Limits {
    /// Is all time gone?
    pub(crate) fn are_over(&self) -> bool {
        Instant::now() >= self.end
    }

    /// Waits for no longer than `limit`, nor beyond the whole.
    ///
    /// # Errors
    /// The limit that was passed.
    pub(crate) async fn within<T>(
        &self,
        limit: Duration,
        future: impl Future<Output = T>,
    ) -> Result<T, Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        let (time, said) = if limit < left { (limit, limit) } else { (left, self.whole) };
        timeout(time, future).await.map_err(|_| said)
    }

    /// Until the end of the whole.
    ///
    /// # Errors
    /// The whole, passed.
    pub(crate) async fn all_in_all<T>(&self, future: impl Future<Output = T>) -> Result<T, Duration> {
        self.within(Duration::MAX, future).await
    }
}
