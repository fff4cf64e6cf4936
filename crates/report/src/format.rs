//! Numbers and names as people read them.

/// A fraction as a percentage with one decimal and a narrow space: `81.0 %`.
pub(crate) fn percent(fraction: f64) -> String {
    format!("{:.1}\u{202f}%", fraction * 100.0)
}

/// A difference of two fractions in percentage points, with its sign: `+50.0`.
pub(crate) fn points(difference: f64) -> String {
    format!("{:+.1}", difference * 100.0).replace('-', "\u{2212}")
}

/// A whole number with commas between the thousands: `10,000`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun: `1 class`, `10,000 classes`.
#[must_use]
pub fn counted(n: usize, one: &str, many: &str) -> String {
    format!("{} {}", count(n as u64), if n == 1 { one } else { many })
}

/// A number with as many decimals as numbers `resolution` apart need: `0.06`, `1,200`, `3e-5`.
pub(crate) fn number(value: f64, resolution: f64) -> String {
    if value != 0.0 && (value.abs() < 1e-3 || value.abs() >= 1e7) {
        return format!("{:e}", format!("{value:.1e}").parse().unwrap_or(value))
            .replace('-', "\u{2212}");
    }
    let decimals = (-resolution.abs().log10() - 1e-9).ceil().clamp(0.0, 6.0);
    let text = format!("{value:.0$}", decimals as usize);
    let (whole, decimals) = text.split_at(text.find('.').unwrap_or(text.len()));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |rest| ("\u{2212}", rest));
    format!("{sign}{}{decimals}", whole.parse().map_or(whole.to_owned(), count))
}

/// Bytes as people say them: `0.79 GB`.
pub(crate) fn gigabytes(bytes: u64) -> String {
    format!("{:.2} GB", bytes as f64 / 1e9)
}

/// Seconds as people say them: `8 min 32 s`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, _) => format!("{seconds:.1} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{} h {minutes} min", count(hours)),
    }
}

/// `images_per_second` → `Images per second`.
pub(crate) fn metric_title(name: &str) -> String {
    let words = name.replace(['_', '/'], " ");
    let mut letters = words.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// The name of a class, or its number where it has none.
pub(crate) fn class_name(classes: &[String], index: usize) -> String {
    classes.get(index).cloned().unwrap_or_else(|| format!("class {index}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(counted(1, "epoch", "epochs"), "1 epoch");
        assert_eq!(counted(1200, "epoch", "epochs"), "1,200 epochs");
        assert_eq!(percent(0.8104), "81.0\u{202f}%");
        assert_eq!(points(-0.052), "\u{2212}5.2");
        assert_eq!(count(0), "0");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(number(1200.0, 200.0), "1,200");
        assert_eq!(number(0.06, 0.02), "0.06");
        assert_eq!(number(-2.5, 0.5), "\u{2212}2.5");
        assert_eq!(number(3.04e-5, 1e-5), "3e\u{2212}5");
        assert_eq!(number(0.0, 0.5), "0.0");
        assert_eq!(duration(512.0), "8 min 32 s");
        assert_eq!(duration(7325.0), "2 h 2 min");
        assert_eq!(duration(3.21), "3.2 s");
    }
}
