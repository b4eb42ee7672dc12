//! What a learner uses, day by day.

pub(crate) mod check;
pub(crate) mod diff;
mod done;
pub(crate) mod exercise;
mod imports;
pub(crate) mod lab;
mod report;
mod solution;
pub(crate) mod strip;
