//! What the commands print, and the code that the program ends with.

use std::fmt::Display;
use std::io::Write;
use std::sync::Arc;

use anyhow::Context;
use day7_registry::error::{error_chain, printable};
use day7_registry::{BalanceError, Code, DiscoveryError, Error, RegistryError};
use serde_json::value::RawValue;

/// A mistake on the command line, or in the environment, that the parser could not see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Mistake(pub(super) String);

/// Prints a line at once, whatever stdout is connected to. A reader that has gone is an error, not a panic.
pub(super) fn print_line(line: impl Display) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    let line = printable(&line.to_string());
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).context("cannot write to stdout")
}

/// Prints JSON as the peer wrote it: numbers keep all of their digits. It stays JSON, and is one line.
pub(super) fn print_json(json: &RawValue) -> anyhow::Result<()> {
    let mut line = String::new();
    for c in json.get().chars() {
        match c {
            '\n' | '\r' | '\t' => line.push(' '), // white space: inside of a text they are escaped
            c if c.is_control() => line.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => line.push(c),
        }
    }
    print_line(line)
}

/// Prints columns that are as wide as they need to be.
pub(super) fn print_table<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) -> anyhow::Result<()> {
    let rows = [vec![head.map(str::to_owned)], rows].concat();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        print_line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// Prints an error, if that is possible, and returns the exit code that belongs to it.
pub(crate) fn print_error(error: &anyhow::Error) -> u8 {
    let mut stderr = std::io::stderr().lock();
    writeln!(stderr, "error: {}", printable(&error_chain(error))).ok();
    if error.chain().any(|cause| matches!(of_a_call(cause), Some(Error::Handshake(_)))) {
        let hint = "hint: an endpoint is tcp@… on a plain port, and http@… on a port that speaks HTTP";
        writeln!(stderr, "{hint}").ok();
    }
    error.chain().find_map(exit_code).unwrap_or(1)
}

/// The codes that `--help` lists.
fn exit_code(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if let Some(error) = of_a_call(cause) {
        return match error {
            // The server has the same limit, and may be the first to notice.
            Error::Remote(error) if *error.code() == Code::DEADLINE_EXCEEDED => Some(4),
            Error::Remote(_) | Error::Refused(_) => Some(3),
            Error::Timeout { .. } => Some(4),
            Error::Io(_) | Error::Handshake(_) | Error::Disconnected(_) | Error::NotSent(_) => Some(5),
            _ => Some(1),
        };
    }
    if let Some(error) = cause.downcast_ref::<RegistryError>() {
        return match error {
            RegistryError::Timeout { .. } => Some(4),
            RegistryError::Unreachable(_) => Some(5),
            _ => Some(1),
        };
    }
    match cause.downcast_ref::<BalanceError>() {
        Some(BalanceError::Discovery(DiscoveryError::NoServers)) => Some(5),
        _ if cause.is::<Mistake>() => Some(2),
        _ => None,
    }
}

fn of_a_call<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    cause.downcast_ref::<Error>().or(cause.downcast_ref::<Arc<Error>>().map(Arc::as_ref))
}
