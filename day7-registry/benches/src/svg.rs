//! The chart: a panel for each workload, a bar for each peer, as long as its calls per second.
//!
//! The longest bar of a library fills the width. A floor that is faster still is cut off there, or the others could
//! not be told apart.

use crate::compare::{Row, Settings};
use crate::load::Sample;
use crate::peers::Peer;
use crate::report::{line, summary, thousands};
use crate::workload::{Placement, Workload};

const WIDTH: usize = 860;
/// Where the bars begin, and how long the longest is.
const LEFT: usize = 150;
const LONGEST: f64 = 600.0;
const ROW: usize = 20;
const HEADING: usize = 34;
const TOP: usize = 52;
/// Room for the line that says what the colours mean.
const BOTTOM: usize = 40;

/// The chart of the calls per second, with both processes free; or pinned, if that is all that was measured.
pub(crate) fn chart(settings: &Settings, rows: &[Row]) -> String {
    let placements = &settings.placements;
    let placement = if placements.contains(&Placement::Free) { Placement::Free } else { Placement::Pinned };
    let panel_height = HEADING + settings.peers.len() * ROW;
    let height = TOP + settings.workloads.len() * panel_height + BOTTOM;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    let title = format!("Calls per second, {}", placement.title());
    label(&mut text, 16, 22, "font-size=\"15\" font-weight=\"bold\"", &title);
    label(&mut text, 16, 40, "fill=\"#57606a\"", &settings.machine);
    for (index, workload) in settings.workloads.iter().enumerate() {
        panel(&mut text, settings, rows, placement, *workload, TOP + index * panel_height);
    }
    legend(&mut text, height - 14);
    text + "</svg>\n"
}

/// What the colours mean, and the mark.
fn legend(text: &mut String, y: usize) {
    let kinds = [
        (Peer::RrpcBincode, "this course"),
        (Peer::TarpcBincode, "tarpc"),
        (Peer::Tonic, "tonic"),
        (Peer::FloorBare, "floors, without a library; a bar with » is cut off, as the floor is faster"),
    ];
    let kinds = kinds.map(|(peer, kind)| {
        format!("<tspan dx=\"10\" fill=\"{}\">■</tspan> <tspan>{kind}</tspan>", colour(peer))
    });
    line(
        text,
        format_args!("<text x=\"6\" y=\"{y}\" font-size=\"11\" fill=\"#57606a\">{}</text>", kinds.concat()),
    );
}

fn panel(
    text: &mut String,
    settings: &Settings,
    rows: &[Row],
    placement: Placement,
    workload: Workload,
    top: usize,
) {
    label(text, 16, top + HEADING - 12, "font-size=\"13\" font-weight=\"bold\"", workload.title());
    let values: Vec<_> = settings
        .peers
        .iter()
        .filter_map(|peer| {
            Some((*peer, summary(rows, placement, workload, *peer, Sample::calls_per_second)?))
        })
        .collect();
    let libraries = values.iter().filter(|(peer, _)| !peer.is_floor());
    let most = libraries.map(|(_, value)| value.median).fold(f64::MIN_POSITIVE, f64::max);
    for (index, (peer, value)) in values.iter().enumerate() {
        let y = top + HEADING + index * ROW;
        let length = (value.median / most * LONGEST).clamp(1.0, LONGEST);
        let mark = if value.median > most { "» " } else { "" };
        label(text, LEFT - 8, y + 10, "text-anchor=\"end\"", &peer.to_string());
        line(
            text,
            format_args!(
                "<rect x=\"{LEFT}\" y=\"{}\" width=\"{length:.1}\" height=\"{}\" fill=\"{}\"/>",
                y - 1,
                ROW - 6,
                colour(*peer)
            ),
        );
        let end = LEFT + length as usize + 6;
        label(text, end, y + 10, "fill=\"#57606a\"", &format!("{mark}{}", thousands(value.median)));
    }
}

/// Ours, theirs, and the floors.
fn colour(peer: Peer) -> &'static str {
    match peer {
        Peer::RrpcBincode | Peer::RrpcJson | Peer::RrpcHttp | Peer::RrpcTls => "#1f6feb",
        Peer::TarpcBincode | Peer::TarpcJson => "#bf8700",
        Peer::Tonic => "#8250df",
        Peer::FloorBare | Peer::FloorTasks | Peer::FloorTasksYield => "#c4ccd4",
    }
}

fn label(text: &mut String, x: usize, y: usize, style: &str, label: &str) {
    let label = label.replace('&', "&amp;").replace('<', "&lt;");
    line(text, format_args!("<text x=\"{x}\" y=\"{y}\" {style}>{label}</text>"));
}
