//! The results as Markdown: the ratios, and one table for each workload and placement.

use std::fmt::Write;

use crate::compare::{Row, Settings};
use crate::goals;
use crate::load::Sample;
use crate::peers::Peer;
use crate::stats::Summary;
use crate::workload::{Kind, Placement, Workload};

/// Of fewer calls, the 99th percentile is the longest one.
const CALLS_FOR_P99: u64 = 100;

/// All of it.
pub(crate) fn markdown(settings: &Settings, rows: &[Row]) -> String {
    let mut text = format!(
        "# rrpc and the libraries you know\n\n{}. Rounds: {}, of {} s for each measurement. Medians, and half of the \
         range as the spread. A p99 of fewer than {CALLS_FOR_P99} calls is their maximum: `max`.\n",
        settings.machine,
        settings.rounds,
        settings.duration.as_secs_f64(),
    );
    text += &settings.notice;
    text += &ratios(rows);
    for placement in &settings.placements {
        for workload in &settings.workloads {
            text += &table(settings, rows, *placement, *workload);
        }
    }
    text
}

fn ratios(rows: &[Row]) -> String {
    let mut text = String::from(
        "\n## Ratios\n\nEach is taken within one round; the median of the rounds counts. The range is from the \
         least to the most. `floor-bare` is the ratio of that floor to the same library: about what is possible.\n\n\
         | | against | workload | cores | what | ratio | range | goal | | floor-bare |\n\
         |---|---|---|---|---|--:|--:|---|---|--:|\n",
    );
    let mut tally = Tally::default();
    for goal in goals::all() {
        let Some(ratio) = goal.ratio(rows) else { continue };
        let verdict = tally.verdict(goal.bound.is_met(ratio.median));
        let floor = goal.floor(rows).map(|ratio| format!("{:.2}", ratio.median)).unwrap_or_default();
        let (ours, theirs, workload, placement) = (goal.ours, goal.theirs, goal.workload, goal.placement);
        line(
            &mut text,
            format_args!(
                "| {ours} | {theirs} | {workload} | {placement} | {} | {:.2} | {:.2} to {:.2} | {} | {verdict} \
                 | {floor} |",
                goal.metric.title(),
                ratio.median,
                ratio.least,
                ratio.most,
                goal.bound.text(),
            ),
        );
    }
    text + &tally.text()
}

fn table(settings: &Settings, rows: &[Row], placement: Placement, workload: Workload) -> String {
    let mut text = format!("\n## {}, {}\n\n", workload.title(), placement.title());
    let (title, column) = match workload.kind() {
        Kind::Echo(_) => (" MB/s |", "--:|"),
        Kind::Sum => ("", ""),
    };
    line(
        &mut text,
        format_args!(
            "| | calls/s | spread | p50 us | p99 us | CPU s per million calls | spread | server | client \
             | segments a call |{title}\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|{column}"
        ),
    );
    for peer in &settings.peers {
        let of = |figure: fn(&Sample) -> f64| summary(rows, placement, workload, *peer, figure);
        let (Some(calls), Some(cpu), Some(counts)) =
            (of(Sample::calls_per_second), of(Sample::cpu_per_call), of(|sample| sample.calls as f64))
        else {
            continue;
        };
        let median = |figure: fn(&Sample) -> f64| of(figure).map_or(f64::NAN, |summary| summary.median);
        let max = if counts.least < CALLS_FOR_P99 as f64 { "max " } else { "" };
        let megabytes = match workload.kind() {
            Kind::Echo(len) => format!(" {:.0} |", calls.median * len as f64 / 1e6),
            Kind::Sum => String::new(),
        };
        line(
            &mut text,
            format_args!(
                "| {peer} | {} | ±{:.0} % | {:.1} | {max}{:.1} | {:.2} | ±{:.0} % | {:.2} | {:.2} | {:.2} |{megabytes}",
                thousands(calls.median),
                calls.spread() * 100.0,
                median(|sample| sample.p50),
                median(|sample| sample.p99),
                cpu.median,
                cpu.spread() * 100.0,
                median(|sample| sample.server_cpu / sample.calls as f64 * 1e6),
                median(|sample| sample.client_cpu / sample.calls as f64 * 1e6),
                median(Sample::segments_per_call),
            ),
        );
    }
    text
}

/// One figure of one peer, over all rounds.
pub(crate) fn summary(
    rows: &[Row],
    placement: Placement,
    workload: Workload,
    peer: Peer,
    of: impl Fn(&Sample) -> f64,
) -> Option<Summary> {
    let same = |row: &&Row| (row.placement, row.workload, row.peer) == (placement, workload, peer);
    Summary::of(rows.iter().filter(same).map(|row| of(&row.sample)))
}

/// How many goals are met.
#[derive(Default)]
pub(crate) struct Tally {
    met: usize,
    all: usize,
}

impl Tally {
    /// Counts one, and returns what its table says of it.
    pub(crate) fn verdict(&mut self, is_met: bool) -> &'static str {
        self.met += usize::from(is_met);
        self.all += 1;
        if is_met { "yes" } else { "no" }
    }

    pub(crate) fn text(&self) -> String {
        format!("\n{} of {} goals are met.\n", self.met, self.all)
    }
}

/// `1234567.8` → `1,234,568`.
pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Adds a line.
pub(crate) fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a String takes every line");
}

#[cfg(test)]
mod tests {
    use super::thousands;

    #[test]
    fn digits_come_in_threes() {
        assert_eq!(thousands(7.4), "7");
        assert_eq!(thousands(123.0), "123");
        assert_eq!(thousands(1234.0), "1,234");
        assert_eq!(thousands(1_234_567.8), "1,234,568");
    }
}
