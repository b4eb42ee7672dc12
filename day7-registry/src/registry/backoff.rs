//! How long to wait before the next request to a registry.
//!
//! ```text
//! success   a third of the lease, shortened by up to a quarter
//! failure   1      2      3      4     …
//! pause     100ms  200ms  400ms  800ms …  up to the longest; each of them shortened by up to a half
//! ```
//!
//! The registry may be down because it is overloaded, so each failure doubles the pause. And all of its
//! clients saw it fail at the same moment, so each pause is shortened by chance: otherwise they would all try
//! again at the same moment too.

use std::time::Duration;

use rand::RngExt;

use crate::registry::MAX_BACKOFF;

/// The pause after the first failure, if the longest one allows for it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The shortest pause that anything here makes, whatever lease a registry grants.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

/// Knows the lease, and counts failures in a row.
#[derive(Debug)]
pub(super) struct Backoff {
    /// A third of the lease. Until one is known, the longest interval.
    pub(super) interval: Duration,
    longest_interval: Duration,
    /// The pause after the last failure, before chance shortened it. `None` after a success.
    pause: Option<Duration>,
}

impl Backoff {
    pub(super) fn new(longest_interval: Duration) -> Backoff {
        Backoff { interval: longest_interval, longest_interval, pause: None }
    }

    /// The pause after a success. Chance shortens it, so that programs that were started together do not send their
    /// requests together, round after round.
    pub(super) fn after_success(&mut self, lease: Duration) -> Duration {
        self.interval = (lease / 3).clamp(SHORTEST_PAUSE, self.longest_interval);
        self.pause = None;
        rand::rng().random_range(self.interval * 3 / 4..=self.interval).max(SHORTEST_PAUSE)
    }

    /// The pause after one more failure. It is never longer than a third of the lease, nor than [`MAX_BACKOFF`].
    ///
    /// The first one is at most a quarter of that: after a single failure there must be time for another
    /// attempt before a lease ends.
    pub(super) fn after_failure(&mut self) -> Duration {
        let longest = self.interval.min(MAX_BACKOFF);
        let pause = match self.pause {
            Some(pause) => longest.min(pause * 2),
            None => FIRST_PAUSE.min(longest / 4),
        };
        self.pause = Some(pause);
        rand::rng().random_range(pause / 2..=pause).max(SHORTEST_PAUSE)
    }
}
