//! The little statistics that is needed: several rounds measure the same thing several times.

/// The middle of some values, and how far they are apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Summary {
    /// `None` if there are no values.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Summary> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let median = (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0;
        Some(Summary { median, least, most })
    }

    /// How far the values are from the median, on either side: the share of it that half of their range is.
    pub(crate) fn spread(&self) -> f64 {
        (self.most - self.least) / 2.0 / self.median
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_of_any_number_of_values() {
        let summary = Summary::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!(summary, Summary { median: 2.0, least: 1.0, most: 3.0 });
        assert_eq!(summary.spread(), 0.5);
        assert_eq!(Summary::of([4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(Summary::of([]), None);
    }
}
