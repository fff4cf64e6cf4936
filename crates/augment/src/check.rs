//! Checks of values. Errors are messages.

use std::fmt::Debug;

pub(crate) fn require(condition: bool, message: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(message()) }
}

pub(crate) fn side(size: u32) -> Result<(), String> {
    require(size > 0, || "`size` is 0; it is the side of the view in pixels".to_owned())
}

pub(crate) fn probability(p: f64) -> Result<(), String> {
    within("p", p, 1.0)
}

/// Checks 0 ≤ `value` ≤ `most`; `f64::MAX` is no limit.
pub(crate) fn within(name: &str, value: f64, most: f64) -> Result<(), String> {
    require((0.0..=most).contains(&value), || complaint(name, value, "at least 0", most))
}

/// Checks 0 < least ≤ greatest ≤ `most`; `f64::MAX` is no limit.
pub(crate) fn range(name: &str, [least, greatest]: [f64; 2], most: f64) -> Result<(), String> {
    require(0.0 < least && least <= greatest && greatest <= most, || {
        complaint(name, [least, greatest], "[least, greatest] above 0", most)
    })
}

fn complaint(name: &str, value: impl Debug, needed: &str, most: f64) -> String {
    let limit = if most == f64::MAX { String::new() } else { format!(" and at most {most}") };
    format!("`{name}` is {value:?}; it has to be {needed}{limit}")
}
