//! What is measured, and where it runs.

use std::fmt;

use clap::ValueEnum;

/// What the client asks for, over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// `sum(i32, i32) -> i32`, one call after the other: what one caller waits for
    #[value(name = "sum-1")]
    Sum1,
    /// `sum(i32, i32) -> i32`, 64 calls in flight: a busy connection
    #[value(name = "sum-64")]
    Sum64,
    /// `sum(i32, i32) -> i32`, 1024 calls in flight: a connection at its limit
    #[value(name = "sum-1024")]
    Sum1024,
    /// The same on 1,000 connections, one call in flight on each: many clients of one server
    #[value(name = "sum-1000x1")]
    Sum1000x1,
    /// The same on 1,000 connections, 16 calls in flight on each
    #[value(name = "sum-1000x16")]
    Sum1000x16,
    /// 1 MiB out and the same back, 4 calls in flight: what a copy costs
    #[value(name = "echo-1m")]
    Echo1M,
}

/// What a workload is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Two numbers, and their sum back.
    Sum,
    /// So many bytes, and the same back.
    Echo(usize),
}

impl Workload {
    pub(crate) const ALL: [Workload; 6] = [
        Workload::Sum1,
        Workload::Sum64,
        Workload::Sum1024,
        Workload::Sum1000x1,
        Workload::Sum1000x16,
        Workload::Echo1M,
    ];

    pub(crate) fn kind(self) -> Kind {
        match self {
            Workload::Echo1M => Kind::Echo(1024 * 1024),
            _ => Kind::Sum,
        }
    }

    /// How many connections.
    pub(crate) fn connections(self) -> usize {
        match self {
            Workload::Sum1000x1 | Workload::Sum1000x16 => 1000,
            _ => 1,
        }
    }

    /// How many calls of each connection wait for their replies at any time.
    pub(crate) fn in_flight(self) -> usize {
        match self {
            Workload::Sum1 | Workload::Sum1000x1 => 1,
            Workload::Sum1000x16 => 16,
            Workload::Sum64 => 64,
            Workload::Sum1024 => 1024,
            Workload::Echo1M => 4,
        }
    }

    /// For a heading.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Workload::Sum1 => "sum, 1 in flight",
            Workload::Sum64 => "sum, 64 in flight",
            Workload::Sum1024 => "sum, 1024 in flight",
            Workload::Sum1000x1 => "sum, 1 in flight on each of 1,000 connections",
            Workload::Sum1000x16 => "sum, 16 in flight on each of 1,000 connections",
            Workload::Echo1M => "1 MiB echo, 4 in flight",
        }
    }
}

/// Which cores the two processes may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Placement {
    /// Both processes share two cores: what a user sees, and what the machine's moods see too
    Free,
    /// Both processes on one core, which is never idle: CPU per call mostly repeats within some 20 %
    Pinned,
}

impl Placement {
    pub(crate) const ALL: [Placement; 2] = [Placement::Free, Placement::Pinned];

    /// How many cores that is.
    pub(crate) fn cores(self) -> usize {
        match self {
            Placement::Free => 2,
            Placement::Pinned => 1,
        }
    }

    /// For a heading.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Placement::Free => "both processes free on two cores",
            Placement::Pinned => "both processes on one core",
        }
    }
}

/// A value's name on the command line.
pub(crate) fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&name(*self))
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&name(*self))
    }
}
