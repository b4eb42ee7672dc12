//! The table "Files of today" in a day's README.
//!
//! ```text
//! ## Files of today
//!
//! | file | | what it is for |
//! |---|---|---|
//! | `src/pending.rs` | new | the calls in flight |
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
}
