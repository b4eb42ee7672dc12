//! The tables of the READMEs: "Files of today" and the stages in a day's, and "The seven days" in the course's.
//!
//! ```text
//! ## Files of today
//!
//! | file | | what it is for |
//! |---|---|---|
//! | `src/client/in_flight.rs` | new | the calls in flight |
//!
//! | stage | tests | what you write | minutes |
//! |---|---|---|---|
//! | in_flight | 3 | the table: `client/in_flight.rs` | 60 |
//!
//! ## The seven days
//!
//! | day | the one idea | files of the day | lines of the diff | tests |
//! |---|---|---|---|---|
//! | [2: `day2-client`](day2-client/README.md) | many calls | `client` | +500 | 31 |
//! ```

/// The heading that the table stands under.
pub(crate) const HEADING: &str = "## Files of today";

/// One row: the file, and `new` or `changed`.
#[derive(Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) file: String,
    pub(crate) word: String,
}

/// The rows of the table, or `None` if there is no such heading or no table under it.
pub(crate) fn files_of_today(readme: &str) -> Option<Vec<Row>> {
    let below = readme.lines().map(str::trim).skip_while(|line| *line != HEADING).skip(1);
    let section = below.take_while(|line| !line.starts_with("## ") && !line.starts_with("# "));
    let table = section.skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let mut lines = table.map(cells);
    // The heading of the table and the line of dashes under it.
    lines.next()?;
    lines.next()?;
    Some(lines.map(|cells| row(&cells)).collect())
}

/// The rows of the table of the stages: the name, the number of tests and of minutes. None: there is no such table.
pub(crate) fn stages(readme: &str) -> Vec<[&str; 3]> {
    let is_row = |line: &&str| line.starts_with('|');
    let table = readme.lines().skip_while(|line| !line.starts_with("| stage |")).take_while(is_row);
    let rows = table.skip(2).map(cells);
    rows.filter_map(|cells| {
        if let [name, tests, _, minutes] = cells[..] { Some([name, tests, minutes]) } else { None }
    })
    .collect()
}

/// What the course's README says of a day.
#[derive(Debug, PartialEq)]
pub(crate) struct Promise<'a> {
    /// Such as `+494 −69`, or `+500`.
    pub(crate) diff: &'a str,
    pub(crate) tests: &'a str,
}

/// The row of the day of that name in the course's table, or `None` if there is none.
pub(crate) fn promise<'a>(readme: &'a str, day: &str) -> Option<Promise<'a>> {
    let name = format!("`{day}`");
    let rows = readme.lines().map(str::trim).filter(|line| line.starts_with('|')).map(cells);
    let mut rows = rows.filter(|cells| cells.first().is_some_and(|cell| cell.contains(&name)));
    match rows.next()?[..] {
        [_, _, _, diff, tests] => Some(Promise { diff, tests }),
        _ => None,
    }
}

/// Lines added and removed, as the course's table has them.
pub(crate) fn diff((added, removed): (usize, usize)) -> String {
    if removed == 0 { format!("+{added}") } else { format!("+{added} \u{2212}{removed}") }
}

fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}

/// A file in a link, as in [`src/frame.rs`](src/frame.rs), is as good as a bare one.
fn row(cells: &[&str]) -> Row {
    let cell = |index: usize| cells.get(index).copied().unwrap_or_default();
    let file = cell(0).split('`').nth(1).unwrap_or(cell(0));
    Row { file: file.to_owned(), word: cell(1).trim_matches(['*', '_', '`']).to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_ends_with_its_section_and_other_tables_do_not_count() {
        let readme = "\
# Day 2

| `src/no.rs` | new | another table |
|---|---|---|

## Files of today

Two files.

| file | | what for |
|:--|---|---|
| `src/client.rs` | new | calls |
| [`src/server.rs`](src/server.rs) | **changed** | a `|` breaks only what comes after |

## Run it

| `src/no.rs` | new | yet another |
";
        let row = |file: &str, word: &str| Row { file: file.to_owned(), word: word.to_owned() };
        assert_eq!(
            files_of_today(readme),
            Some(vec![row("src/client.rs", "new"), row("src/server.rs", "changed")])
        );
    }

    #[test]
    fn no_heading_and_no_table_are_told_from_an_empty_table() {
        assert_eq!(files_of_today("# Day 2\n"), None);
        assert_eq!(files_of_today("## Files of today\n\nNone.\n"), None);
        assert_eq!(files_of_today("## Files of today\n| file | |\n|---|---|\n"), Some(vec![]));
    }

    #[test]
    fn the_course_promises_lines_and_tests_of_each_day() {
        let readme = "| day | | | lines | tests |\n|---|---|---|---|---|\n\
                      | [1: `day1-codec`](x) | a | `b` | +7 | 4 |\n| [2: `day2-client`](x) | a | | +8 \u{2212}1 | 5 |\n\
                      | `day3-service` | another table |\n";
        assert_eq!(promise(readme, "day1-codec"), Some(Promise { diff: "+7", tests: "4" }));
        assert_eq!(promise(readme, "day2-client"), Some(Promise { diff: &diff((8, 1)), tests: "5" }));
        assert_eq!(promise(readme, "day3-service"), None);
        assert_eq!(promise(readme, "day4-timeout"), None);
    }
}
