//! Day 4: every wait ends, and nothing is left behind.

mod hardening_silence;

mod hardening_slow;

mod hardening_budget;

mod hardening_places;

mod hardening_writes;

mod hardening_closing;

mod hardening_accepting;

mod hardening_shutdown;

mod hardening_limits;
