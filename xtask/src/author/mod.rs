//! What keeps the course in order: `cargo xtask author …`. A learner needs none of it.

pub(crate) mod book;
pub(crate) mod chaos;
mod checks;
pub(crate) mod days;
pub(crate) mod demos;
pub(crate) mod forward;
mod layers;
pub(crate) mod prove;
pub(crate) mod soak;
