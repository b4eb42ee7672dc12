//! How long one connection may take for what it does, with one timer for all of it.
//!
//! ```text
//! inside a message      its next bytes within read_timeout, all of it within message_timeout
//! replies to write      the client takes something within write_timeout
//! no call in flight     idle_timeout, then the connection is drained
//! draining              grace_period for the calls in flight, then a moment for the client to leave
//! ```
//!
//! A network that is cut says nothing. Without these limits a connection without a peer is open for ever.

use tokio::time::Instant;

use crate::deadline::{Alarm, later};
use crate::error::Error;
use crate::server::settings::Settings;
use crate::wire::linger::LINGER_TIME;

pub(super) struct Liveness {
    alarm: Alarm,
    is_reading: bool,
    /// No call is in flight, and no message has begun.
    pub(super) is_idle: bool,
    /// Since when there are replies to write of which the client has taken nothing.
    write_since: Option<Instant>,
    draining_since: Option<Instant>,
    message_since: Instant,
    last_read: Instant,
    /// When a call last began or ended.
    last_call: Instant,
}

/// Which limit is over.
pub(super) enum Over {
    Idle,
    Drained,
    Failed(Error),
}

impl Liveness {
    pub(super) fn new() -> Liveness {
        let now = Instant::now();
        Liveness {
            alarm: Alarm::new(),
            is_reading: false,
            is_idle: true,
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

    pub(super) fn has_called(&mut self) {
        self.last_call = Instant::now();
    }

    /// Whether there are replies to write.
    pub(super) fn set_writing(&mut self, is_writing: bool) {
        if !is_writing {
            self.write_since = None;
        } else if self.write_since.is_none() {
            self.write_since = Some(Instant::now());
        }
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

    /// Waits until a limit is over. Cancellation-safe.
    pub(super) async fn over(&mut self, settings: &Settings) -> Over {
        loop {
            let (at, over) = self.first(settings);
            if at <= Instant::now() {
                return over;
            }
            self.alarm.set(at);
            self.alarm.ring().await;
        }
    }

    /// The limit that is over first, as things are now, and when that is.
    fn first(&self, settings: &Settings) -> (Instant, Over) {
        let timeout = |what, after| Over::Failed(Error::Timeout { what, after });
        let is_quiet = self.is_idle && self.write_since.is_none();
        let never = later(self.last_call, std::time::Duration::MAX);
        let mut first = (never, Over::Idle);
        let mut add = |is_on: bool, since, after, over| {
            let at = later(since, after);
            if is_on && at < first.0 {
                first = (at, over);
            }
        };
        let Settings { read_timeout, message_timeout, write_timeout, idle_timeout, grace_period, .. } =
            *settings;
        add(self.is_reading, self.last_read, read_timeout, timeout("the rest of a message", read_timeout));
        add(self.is_reading, self.message_since, message_timeout, timeout("a message", message_timeout));
        if let Some(since) = self.write_since {
            add(true, since, write_timeout, timeout("writing a reply", write_timeout));
        }
        match self.draining_since {
            None => add(is_quiet, self.last_call, idle_timeout, Over::Idle),
            Some(since) => {
                add(is_quiet, since.max(self.last_call), LINGER_TIME, Over::Drained);
                let over = if is_quiet { Over::Drained } else { timeout("shutting down", grace_period) };
                add(true, since, grace_period, over);
            }
        }
        first
    }
}
