//! What a tool writes to a terminal: colours, lines that fit, and a line that says how far it is.
//!
//! Colours are for a terminal only, and not if the environment has `NO_COLOR` (see no-color.org).
//!
//! The tools write with `out!`, `outln!` and `errln!`. `println!` would panic as soon as the reader has gone, as
//! in `cargo xtask check | head -1`; a lint keeps it out.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process;

/// As `print!`; but if the reader has gone, the program ends, and says nothing.
macro_rules! out {
    ($($text:tt)*) => { $crate::course::term::write_out(format_args!($($text)*)) };
}

/// As `println!`; but if the reader has gone, the program ends, and says nothing.
macro_rules! outln {
    () => { $crate::course::term::write_out(format_args!("\n")) };
    ($($text:tt)*) => { $crate::course::term::write_out(format_args!("{}\n", format_args!($($text)*))) };
}

/// As `eprintln!`; but what cannot be read is not missed.
macro_rules! errln {
    ($($text:tt)*) => { $crate::course::term::write_err(format_args!($($text)*)) };
}

/// The exit code that a shell shows for a program which the signal SIGPIPE has ended. It is no success: what was
/// asked for is not done.
const NO_READER: i32 = 141;

/// Text for people is wrapped at this many columns.
pub(crate) const WIDTH: usize = 80;

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    pub(crate) colours: bool,
}

/// A line on standard error that is written over and over, and gone at the end. On a terminal only.
pub(crate) struct Status {
    is_terminal: bool,
}

impl Paint {
    /// As standard output wants it.
    pub(crate) fn stdout() -> Paint {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Paint { colours: io::stdout().is_terminal() && !refused }
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.with("1;31", text)
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

impl Status {
    pub(crate) fn new() -> Status {
        Status { is_terminal: io::stderr().is_terminal() }
    }

    /// Shows this line instead of the last one, as far as it fits.
    pub(crate) fn show(&self, line: &str) {
        if self.is_terminal {
            // A status line that cannot be written is not missed.
            let _ = write!(io::stderr(), "\r\x1b[K{}", cut(line.trim(), WIDTH - 10));
        }
    }
}

impl Drop for Status {
    fn drop(&mut self) {
        self.show("");
    }
}

/// Writes to standard output: see `out!`.
pub(crate) fn write_out(text: Arguments<'_>) {
    match io::stdout().write_fmt(text) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => end_without_reader(),
        Err(error) => {
            write_err(format_args!("error: cannot write to standard output: {error}"));
            process::exit(1);
        }
    }
}

/// Writes a line to standard error: see `errln!`.
pub(crate) fn write_err(line: Arguments<'_>) {
    // There is no other place to say that this cannot be said.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Ends the program, as there is no reader for what it writes.
pub(crate) fn end_without_reader() -> ! {
    process::exit(NO_READER)
}

/// Writes commands, and beside each what it does.
pub(crate) fn print_commands(commands: &[(String, &str)]) {
    let width = commands.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    for (command, what) in commands {
        outln!("  {command:width$}    {what}");
    }
}

/// `1 function`, `3 functions`.
pub(crate) fn plural(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// `; do you mean frames?`, if one of these names is much like the word.
pub(crate) fn meant(word: &str, names: &[&str]) -> String {
    let close = similar::get_close_matches(word, names, 1, 0.6);
    close.first().map(|name| format!("; do you mean {name}?")).unwrap_or_default()
}

/// `about 45 min`, `about 3 h 30 min`.
pub(crate) fn about(minutes: usize) -> String {
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("about {minutes} min"),
        (hours, 0) => format!("about {hours} h"),
        (hours, minutes) => format!("about {hours} h {minutes} min"),
    }
}

/// As much of a line as fits, and `…` for the rest.
pub(crate) fn cut(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    let short: String = line.chars().take(width - 1).collect();
    short + "…"
}

/// The words of a text in lines of at most `width` characters, as far as the words allow.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped_and_a_long_one_has_a_line_of_its_own() {
        assert_eq!(wrap("a bc defghij k", 4), ["a bc", "defghij", "k"]);
        assert_eq!(wrap("\u{2026}\u{2026} \u{2026}", 4), ["\u{2026}\u{2026} \u{2026}"]);
        assert!(wrap("", 4).is_empty());
    }

    #[test]
    fn without_colours_text_is_text() {
        assert_eq!(Paint { colours: false }.red("no"), "no");
        assert_eq!(Paint { colours: true }.red("no"), "\x1b[1;31mno\x1b[0m");
    }
}
