//! How long one connection may take for what it does, with one timer for all of it.
//!
//! ```text
//! inside a message      its next bytes within read_timeout, all of it within message_timeout
//! a large body          BUDGET_TIMEOUT for its room, then the call is refused
//! replies to write      the client takes something within write_timeout
//! no call in flight     idle_timeout, then the connection is drained
//! draining              grace_period for the calls in flight, then a moment for the client to leave
//! ```
//!
//! A network that is cut says nothing. Without these limits a connection without a peer never ends.

use std::time::Duration;

use tokio::time::Instant;

use crate::deadline::{Alarm, BUDGET_TIMEOUT, later};
use crate::server::settings::Settings;
use crate::wire::linger::LINGER_TIME;

pub(super) struct Liveness {
    alarm: Alarm,
    is_reading: bool,
    /// A call is in flight.
    pub(super) is_busy: bool,
    /// The body of a call is on its way.
    pub(super) is_half: bool,
    /// Since when a body waits for the budget.
    budget_since: Option<Instant>,
    /// Since when there are replies to write of which the client has taken nothing.
    write_since: Option<Instant>,
    draining_since: Option<Instant>,
    message_since: Instant,
    last_read: Instant,
    /// When a call last began or ended.
    last_call: Instant,
}

/// Which limit is over.
#[derive(Clone, Copy)]
pub(super) enum Over {
    Budget,
    Idle,
    Drained,
    /// What took too long, and the limit for it.
    TimedOut(&'static str, Duration),
}

impl Liveness {
    pub(super) fn new() -> Liveness {
        let now = Instant::now();
        Liveness {
            alarm: Alarm::new(),
            is_reading: false,
            is_busy: false,
            is_half: false,
            budget_since: None,
            write_since: None,
            draining_since: None,
            message_since: now,
            last_read: now,
            last_call: now,
        }
    }

    /// Whether a message has begun, and we read the rest of it. While we do not, its time stands still.
    pub(super) fn set_reading(&mut self, is_reading: bool) {
        if is_reading && !self.is_reading {
            self.last_read = Instant::now();
            self.message_since = self.last_read;
        }
        self.is_reading = is_reading;
    }

    /// Bytes have come.
    pub(super) fn has_read(&mut self) {
        if self.is_reading {
            self.last_read = Instant::now();
        }
    }

    /// A message is complete. What was read behind it is the begin of the next.
    pub(super) fn has_message(&mut self) {
        self.message_since = self.last_read;
    }

    /// A call has begun or ended.
    pub(super) fn has_called(&mut self, at: Instant) {
        self.last_call = at;
    }

    /// Whether a body waits for the budget.
    pub(super) fn set_waiting(&mut self, is_waiting: bool) {
        set(&mut self.budget_since, is_waiting);
    }

    /// Whether there are replies to write.
    pub(super) fn set_writing(&mut self, is_writing: bool) {
        set(&mut self.write_since, is_writing);
    }

    pub(super) fn has_written(&mut self) {
        self.write_since = None;
    }

    pub(super) fn drain(&mut self) {
        self.draining_since = Some(Instant::now());
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining_since.is_some()
    }

    /// Whether the client has had its time, so that it is not waited for at the end.
    pub(super) fn is_spent(&self, settings: &Settings) -> bool {
        let is_stuck = |since| later(since, settings.write_timeout) <= Instant::now();
        self.is_draining() || self.write_since.is_some_and(is_stuck)
    }

    /// Waits until a limit is over. Cancellation-safe.
    pub(super) async fn over(&mut self, settings: &Settings) -> Over {
        loop {
            let (at, over) = self.first(settings);
            self.alarm.set(at);
            self.alarm.ring().await;
            if at <= Instant::now() {
                return over;
            }
        }
    }

    /// The limit that is over first, as things are now, and when that is.
    fn first(&self, settings: &Settings) -> (Instant, Over) {
        let Settings { read_timeout, message_timeout, write_timeout, idle_timeout, grace_period, .. } =
            *settings;
        let is_quiet = !self.is_busy && !self.is_half && self.write_since.is_none();
        let idle = (is_quiet && !self.is_draining()).then_some(self.last_call);
        let left_alone = self.draining_since.filter(|_| is_quiet).map(|since| since.max(self.last_call));
        let reading = |since| self.is_reading.then_some(since);
        let over = if self.is_busy { Over::TimedOut("shutting down", grace_period) } else { Over::Drained };
        // Since when, if it is on; the limit; and what it means when that is over.
        let limits = [
            (reading(self.last_read), read_timeout, Over::TimedOut("the rest of a message", read_timeout)),
            (reading(self.message_since), message_timeout, Over::TimedOut("a message", message_timeout)),
            (self.budget_since, BUDGET_TIMEOUT, Over::Budget),
            (self.write_since, write_timeout, Over::TimedOut("writing a reply", write_timeout)),
            (idle, idle_timeout, Over::Idle),
            (left_alone, LINGER_TIME, Over::Drained),
            (self.draining_since, grace_period, over),
        ];
        let on = limits.into_iter().filter_map(|(since, after, over)| Some((later(since?, after), over)));
        on.min_by_key(|(at, _)| *at).unwrap_or((later(self.last_call, Duration::MAX), Over::Idle))
    }
}

fn set(since: &mut Option<Instant>, is_on: bool) {
    *since = is_on.then(|| since.unwrap_or_else(Instant::now));
}
