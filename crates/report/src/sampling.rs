//! Choosing some of many points.

/// Whether the `index`-th point belongs to an evenly spread sample of this `share` (0 to 1) of all
/// points.
///
/// Every n-th point would miss whole classes of data in which classes alternate. Multiples of the
/// golden ratio, modulo one, are evenly spread and periodic with nothing.
#[must_use]
pub fn in_even_sample(index: usize, share: f64) -> bool {
    (index as f64 * 0.618_033_988_749_895).fract() < share
}
