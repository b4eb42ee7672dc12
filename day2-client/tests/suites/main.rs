//! The suites of the days so far, and what they share. A suite is a folder, and each stage of it is a module.

mod day1_codec;
mod day2_client;
mod support;
