//! Many labs in one program: a function with defects becomes a choice between its bodies.
//!
//! To build a day's suite once for each of its labs takes minutes. Most labs change the inside of one function,
//! so they can all be built at once, and the environment says which of them is meant:
//!
//! ```text
//! fn name(self) -> &'static str {        fn name(self) -> &'static str {
//!     BODY                                   match crate::lab() {
//! }                                ──▶           3 => { BODY with lab 3 }
//!                                                7 => { BODY with lab 7 }
//!                                                _ => { BODY }
//!                                            }
//!                                        }
//! ```
//!
//! A lab outside of a function, or over the borders of one, is left over, to be built by itself.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::Result;

use crate::course::functions;

/// The variable with the number of the lab. Without it there is none.
pub(super) const VARIABLE: &str = "RRPC_LAB";

/// What is added to `src/lib.rs`.
pub(super) const LAB_FN: &str = r#"
/// The number of the lab that is meant.
pub(crate) fn lab() -> usize {
    static LAB: std::sync::LazyLock<usize> = std::sync::LazyLock::new(|| {
        std::env::var("RRPC_LAB").map_or(0, |lab| lab.parse().expect("RRPC_LAB is the number of a lab"))
    });
    *LAB
}
"#;

/// One lab, as an edit of a file.
pub(super) struct Edit<'a> {
    /// Of the lab, from 1.
    pub(super) number: usize,
    /// What is taken out.
    pub(super) at: Range<usize>,
    /// What comes there.
    pub(super) by: &'a str,
}

/// `source` with all of the edits as variants, and the numbers of those that are left over.
///
/// # Errors
///
/// It is not Rust.
pub(super) fn combine(source: &str, edits: &[Edit<'_>]) -> Result<(String, Vec<usize>)> {
    let bodies = functions::branching_bodies(source)?;
    let mut left_over = Vec::new();
    // A body's beginning and end, and its variants.
    let mut chosen: BTreeMap<(usize, usize), Vec<(usize, String)>> = BTreeMap::new();
    for edit in edits {
        let (at, by) = trim(source, edit);
        let around = bodies.iter().find(|body| body.start < at.start && at.end < body.end);
        let variant = around.map(|body| {
            (body, format!("{}{by}{}", &source[body.start..at.start], &source[at.end..body.end]))
        });
        // What is a block by itself has not moved the border of the function.
        match variant.filter(|(_, text)| syn::parse_str::<syn::Block>(text).is_ok()) {
            Some((body, text)) => {
                chosen.entry((body.start, body.end)).or_default().push((edit.number, text));
            }
            None => left_over.push(edit.number),
        }
    }
    let bodies = chosen.into_iter().map(|((start, end), variants)| {
        let variants = variants.into_iter().map(|(number, variant)| format!("{number} => {variant}\n"));
        let variants: String = variants.collect();
        (start..end, format!("{{ match crate::lab() {{\n{variants}_ => {}\n}} }}", &source[start..end]))
    });
    Ok((functions::replace(source, bodies), left_over))
}

/// An edit without what it takes out and puts back again, at its beginning and at its end.
fn trim<'a>(source: &str, edit: &Edit<'a>) -> (Range<usize>, &'a str) {
    let (mut at, mut by) = (edit.at.clone(), edit.by);
    let same = source[at.clone()].chars().zip(by.chars()).take_while(|(old, new)| old == new);
    let start: usize = same.map(|(c, _)| c.len_utf8()).sum();
    (at.start, by) = (at.start + start, &by[start..]);
    let same = source[at.clone()].chars().rev().zip(by.chars().rev()).take_while(|(old, new)| old == new);
    let end: usize = same.map(|(c, _)| c.len_utf8()).sum();
    (at.end, by) = (at.end - end, &by[..by.len() - end]);
    (at, by)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "\
const LIMIT: usize = 3;
impl A {
    fn first(&self) -> usize { self.0 + 1 }
    fn second(&self) -> usize { self.0 + 2 }
    const fn third() -> usize { 3 }
}
fn opaque() -> impl Iterator<Item = u8> { [4].into_iter() }
";

    /// What becomes of the labs that replace the first text of each pair by the second.
    fn combined(labs: &[(&str, &'static str)]) -> (String, Vec<usize>) {
        let edit = |(index, (find, by)): (usize, &(&str, &'static str))| {
            let start = SOURCE.find(find).unwrap();
            Edit { number: index + 1, at: start..start + find.len(), by }
        };
        let edits: Vec<Edit<'_>> = labs.iter().enumerate().map(edit).collect();
        let (text, left_over) = combine(SOURCE, &edits).unwrap();
        syn::parse_file(&text).unwrap();
        (text, left_over)
    }

    #[test]
    fn the_variants_of_a_body_stand_beside_each_other() {
        let (text, left_over) = combined(&[("+ 1", "- 1"), ("+ 2", "- 2"), ("self.0 + 1", "0")]);
        assert!(left_over.is_empty());
        let first = "\
    fn first(&self) -> usize { match crate::lab() {
1 => { self.0 - 1 }
3 => { 0 }
_ => { self.0 + 1 }
} }
    fn second(&self) -> usize { match crate::lab() {
2 => { self.0 - 2 }
_ => { self.0 + 2 }
} }
";
        assert!(text.contains(first), "{text}");
    }

    #[test]
    fn what_is_the_same_before_and_after_is_no_part_of_an_edit() {
        let (text, left_over) =
            combined(&[("first(&self) -> usize { self.0 + 1 }", "first(&self) -> usize { 7 }")]);
        assert!(left_over.is_empty() && text.contains("1 => { 7 }"), "{text}");
    }

    #[test]
    fn what_is_not_inside_of_one_function_is_left_over() {
        let (text, left_over) = combined(&[
            ("= 3", "= 4"),
            ("+ 1 }\n    fn second(&self) -> usize { self.0 ", ""),
            ("{ 3 }", "{ 4 }"),
            ("[4]", "[5]"),
            ("&self) -> usize { self.0 + 1", "&mut self) -> usize { self.0 + 2"),
            ("+ 1", "+ 1 } fn more() { "),
        ]);
        assert_eq!(left_over, [1, 2, 3, 4, 5, 6]);
        assert_eq!(text, SOURCE);
    }

    #[test]
    fn the_program_reads_the_variable_that_the_tool_sets() {
        assert!(LAB_FN.contains(&format!("var({VARIABLE:?})")));
        syn::parse_file(LAB_FN).unwrap();
    }
}
