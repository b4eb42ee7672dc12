//! Back-off: how long to wait before trying again.
//!
//! ```text
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
pub(super) const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

/// A regular interval, made shorter by chance, by up to a quarter. So programs that were started together do not send
/// their requests together, round after round.
pub(super) fn spread(interval: Duration) -> Duration {
    rand::rng().random_range(interval * 3 / 4..=interval).max(SHORTEST_PAUSE)
}

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// The last pause, before chance shortened it.
    pause: Option<Duration>,
}

impl Backoff {
    /// The pause after one more failure. It is never longer than `longest`, nor than [`MAX_BACKOFF`].
    ///
    /// The first one is at most a quarter of that: after a single failure there must be time for another
    /// attempt before a lease ends.
    pub(super) fn next(&mut self, longest: Duration) -> Duration {
        let longest = longest.clamp(SHORTEST_PAUSE, MAX_BACKOFF);
        let pause = match self.pause {
            Some(pause) => pause.saturating_mul(2).min(longest),
            None => FIRST_PAUSE.min(longest / 4),
        };
        self.pause = Some(pause);
        rand::rng().random_range(pause / 2..=pause).max(SHORTEST_PAUSE)
    }

    /// Starts again, after a success.
    pub(super) fn reset(&mut self) {
        self.pause = None;
    }
}
