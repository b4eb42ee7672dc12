//! The results as Markdown: the ratios, and one table for each workload and placement.

use std::fmt::Write;

use crate::claims;
use crate::compare::{Row, Settings};
use crate::load::Sample;
use crate::machine;
use crate::peers::Peer;
use crate::stats::Summary;
use crate::workload::{Kind, Placement, Workload};

/// All of it.
pub(crate) fn markdown(settings: &Settings, rows: &[Row]) -> String {
    let mut text = format!(
        "# rrpc and the libraries you know\n\n{}. Rounds: {}, of {} s for each measurement. Medians, and half of the \
         range as the spread.\n",
        machine::description(),
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
         least to the most.\n\n\
         | | against | workload | cores | what | ratio | range | goal | |\n|---|---|---|---|---|--:|--:|---|---|\n",
    );
    for claim in claims::all() {
        let Some(ratio) = claim.ratio(rows) else { continue };
        let verdict = if claim.goal.holds(ratio.median) { "yes" } else { "no" };
        let (ours, theirs, workload, placement) = (claim.ours, claim.theirs, claim.workload, claim.placement);
        line(
            &mut text,
            format_args!(
                "| {ours} | {theirs} | {workload} | {placement} | {} | {:.2} | {:.2} to {:.2} | {} | {verdict} |",
                claim.metric.title(),
                ratio.median,
                ratio.least,
                ratio.most,
                claim.goal.text(),
            ),
        );
    }
    text
}

fn table(settings: &Settings, rows: &[Row], placement: Placement, workload: Workload) -> String {
    let mut text = format!("\n## {}, {}\n\n", workload.title(), placement.title());
    let is_echo = matches!(workload.kind(), Kind::Echo(_));
    let unit = if is_echo { "MB/s" } else { "segments a call" };
    line(
        &mut text,
        format_args!(
            "| | calls/s | spread | p50 us | p99 us | CPU s per million calls | server | client | {unit} |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|"
        ),
    );
    for peer in &settings.peers {
        let Some(calls) = summary(rows, placement, workload, *peer, Sample::calls_per_second) else {
            continue;
        };
        let median = |of: fn(&Sample) -> f64| {
            summary(rows, placement, workload, *peer, of).map_or(f64::NAN, |summary| summary.median)
        };
        let last = match workload.kind() {
            Kind::Echo(len) => format!("{:.0}", calls.median * len as f64 / 1e6),
            Kind::Sum => format!("{:.2}", median(Sample::segments_per_call)),
        };
        line(
            &mut text,
            format_args!(
                "| {peer} | {} | ±{:.0} % | {:.1} | {:.1} | {:.2} | {:.2} | {:.2} | {last} |",
                thousands(calls.median),
                calls.spread() * 100.0,
                median(|sample| sample.p50),
                median(|sample| sample.p99),
                median(Sample::cpu_per_call),
                median(|sample| sample.server_cpu / sample.calls as f64 * 1e6),
                median(|sample| sample.client_cpu / sample.calls as f64 * 1e6),
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
