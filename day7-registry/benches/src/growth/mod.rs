//! Cost against size: what grows, and how fast.
//!
//! | module | what grows |
//! |---|---|
//! | [`connections`] | connections: idle, busy, and flooding |
//! | [`servers`] | the servers in a registry |
//! | [`payload`] | the payload of a call |
//!
//! The order of a cost is its exponent: 0 is constant, 1 linear, 2 quadratic. It is fitted to the three largest
//! sizes, because with the small ones the fixed part of the cost hides the rest.

use anyhow::Result;
use clap::ValueEnum;

use crate::machine;
use crate::report::{Tally, line};

pub(crate) mod connections;
mod payload;
pub(crate) mod servers;

/// What can grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// 1 to 10,000 idle connections: the server's memory, and a call on one busy connection among them
    Idle,
    /// 1 to 1,000 busy connections: the time per call of all together, and the CPU time of a call
    Busy,
    /// 1 to 4 connections that flood a server of one thread: the time of a call on another connection
    Fairness,
    /// 10 to 10,000 servers in a registry: renewing, asking for the list, refreshing, choosing
    Registry,
    /// A payload of 1 byte to 8 MiB: the time of a call
    Payload,
}

impl Subject {
    pub(crate) const ALL: [Subject; 5] =
        [Subject::Idle, Subject::Busy, Subject::Fairness, Subject::Registry, Subject::Payload];
}

/// How a cost should grow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Order {
    Constant,
    Linear,
    /// It does not matter.
    Any,
}

impl Order {
    fn exponent(self) -> f64 {
        match self {
            Order::Constant => 0.0,
            Order::Linear => 1.0,
            Order::Any => f64::INFINITY,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Order::Constant => "constant",
            Order::Linear => "linear",
            Order::Any => "any order",
        }
    }
}

/// One cost at several sizes.
#[derive(Debug)]
pub(crate) struct Series {
    /// What it costs, with its unit.
    title: &'static str,
    expected: Order,
    /// What it may cost at the largest size; `None` if only its growth matters.
    at_most: Option<f64>,
    /// Size and cost, from small to large.
    points: Vec<(usize, f64)>,
}

impl Series {
    fn new(title: &'static str, expected: Order) -> Series {
        Series { title, expected, at_most: None, points: Vec::new() }
    }

    fn at_most(self, most: f64) -> Series {
        Series { at_most: Some(most), ..self }
    }

    /// The slope of the straight line through the three largest sizes, both axes logarithmic.
    fn exponent(&self) -> f64 {
        let largest = &self.points[self.points.len().saturating_sub(3)..];
        let logs: Vec<_> = largest.iter().map(|(size, cost)| ((*size as f64).ln(), cost.ln())).collect();
        let count = logs.len() as f64;
        let (x_mean, y_mean) = (
            logs.iter().map(|(x, _)| x).sum::<f64>() / count,
            logs.iter().map(|(_, y)| y).sum::<f64>() / count,
        );
        let rise: f64 = logs.iter().map(|(x, y)| (x - x_mean) * (y - y_mean)).sum();
        let run: f64 = logs.iter().map(|(x, _)| (x - x_mean).powi(2)).sum();
        rise / run
    }

    /// Whether it grows no faster than it should, and costs no more than it may. The margin is for noise, and for
    /// caches that end to fit.
    fn is_as_expected(&self) -> bool {
        let largest = self.points.last().map_or(f64::NAN, |(_, cost)| *cost);
        self.exponent() <= self.expected.exponent() + 0.25 && self.at_most.is_none_or(|most| largest <= most)
    }

    /// What it should be.
    fn expectation(&self) -> String {
        let most = self.at_most.map(|most| format!(", at most {most}")).unwrap_or_default();
        format!("{}{most}", self.expected.name())
    }
}

/// Checks that there will be enough open files.
///
/// # Errors
/// The system allows too few.
pub(crate) fn check_files(subjects: &[Subject], quick: bool) -> Result<()> {
    machine::check_files(connections::most(subjects, quick))
}

/// Measures, and tells stderr how far it is. Returns the tables.
///
/// # Errors
/// A call failed, or the system allows too few open files.
pub(crate) fn run(subjects: &[Subject], quick: bool) -> Result<String> {
    check_files(subjects, quick)?;
    let mut text = format!("# Cost against size\n\n{}.\n", machine::description()) + &machine::busy_notice();
    let mut all = Vec::new();
    for subject in subjects {
        let (heading, series) = match subject {
            Subject::Idle => ("idle connections", connections::idle(quick)?),
            Subject::Busy => ("busy connections, one call in flight on each", connections::busy(quick)?),
            Subject::Fairness => {
                ("connections that flood a server of one thread", connections::fairness(quick)?)
            }
            Subject::Registry => ("servers in the registry", servers::measure(quick)?),
            Subject::Payload => ("bytes of payload, there and back", payload::measure(quick)?),
        };
        text += &table(heading, &series);
        all.extend(series);
    }
    text += &orders(&all);
    Ok(text)
}

fn table(heading: &str, series: &[Series]) -> String {
    let titles: Vec<_> = series.iter().map(|series| series.title).collect();
    let mut text =
        format!("\n| {heading} | {} |\n|--:{}|\n", titles.join(" | "), "|--:".repeat(series.len()));
    let sizes = series.first().map_or(&[][..], |series| &series.points);
    for (index, (size, _)) in sizes.iter().enumerate() {
        let costs: Vec<_> = series.iter().map(|series| number(series.points[index].1)).collect();
        line(
            &mut text,
            format_args!("| {} | {} |", crate::report::thousands(*size as f64), costs.join(" | ")),
        );
    }
    text
}

fn orders(series: &[Series]) -> String {
    let mut text = String::from("\n| cost | should be | exponent measured | |\n|---|---|--:|---|\n");
    let mut tally = Tally::default();
    for series in series {
        let verdict = tally.verdict(series.is_as_expected());
        let (title, expectation) = (series.title, series.expectation());
        line(&mut text, format_args!("| {title} | {expectation} | {:.2} | {verdict} |", series.exponent()));
    }
    text + &tally.text()
}

/// Three digits, wherever they begin.
fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => crate::report::thousands(value),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponent_is_that_of_the_large_sizes() {
        let series = |cost: fn(f64) -> f64, expected| Series {
            title: "",
            expected,
            at_most: None,
            points: [1, 10, 100, 1000, 10_000].map(|size| (size, cost(size as f64))).into(),
        };
        let constant = series(|_| 7.0, Order::Constant);
        assert!(constant.exponent().abs() < 0.01 && constant.is_as_expected());
        let linear = series(|size| 50.0 + size, Order::Linear);
        assert!((linear.exponent() - 1.0).abs() < 0.2 && linear.is_as_expected());
        let quadratic = series(|size| size * size, Order::Linear);
        assert!((quadratic.exponent() - 2.0).abs() < 0.01 && !quadratic.is_as_expected());
    }

    #[test]
    fn a_limit_is_that_of_the_largest_size() {
        let mut series = Series::new("KiB each", Order::Constant).at_most(12.0);
        series.points = vec![(1, 40.0), (10, 12.1), (100, 12.0)];
        assert!(series.is_as_expected());
        assert_eq!(series.expectation(), "constant, at most 12");
        series.points.push((1000, 12.1));
        assert!(!series.is_as_expected());
    }
}
