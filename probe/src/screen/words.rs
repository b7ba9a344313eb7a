//! Numbers as they fit in a narrow column.

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// `-`, `0`, `3.5`, `420`, `12.3k`, `1.2M`.
pub fn rate(rate: Option<f64>) -> String {
    match rate {
        None => "-".to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(rate) if rate < 0.05 => "<0.1".to_owned(),
        Some(rate) if rate < 9.95 => format!("{rate:.1}"),
        Some(rate) if rate < 9_999.5 => format!("{rate:.0}"),
        Some(rate) if rate < 999_950.0 => format!("{:.1}k", rate / 1e3),
        Some(rate) if rate < 999_950_000.0 => format!("{:.1}M", rate / 1e6),
        Some(rate) => format!("{:.0}G", rate / 1e9),
    }
}

/// As it is, as long as it has at most `width` digits.
#[expect(clippy::cast_precision_loss, reason = "what does not fit is rounded anyway")]
pub fn count(count: Option<u64>, width: usize) -> String {
    match count {
        None => "-".to_owned(),
        Some(count) if count.to_string().len() <= width => count.to_string(),
        Some(count) => rate(Some(count as f64)),
    }
}

/// `12s`, `4m12s`, `3h05m`, `2d03h`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded before")]
pub fn age(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds else { return "-".to_owned() };
    let seconds = seconds.clamp(0.0, 1e9) as u64;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// The last `width` values, each against the highest of them; a blank is unknown.
pub fn trend(values: &[Option<f32>], width: usize) -> String {
    let shown = &values[values.len().saturating_sub(width)..];
    let highest = shown.iter().flatten().copied().fold(0.0, f32::max);
    shown.iter().map(|value| value.map_or(' ', |value| bar(value, highest))).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of one, in eighths")]
fn bar(value: f32, highest: f32) -> char {
    let share = if highest > 0.0 { (value / highest).clamp(0.0, 1.0) } else { 0.0 };
    BARS[(share * 7.0).ceil() as usize % BARS.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_keep_to_six_characters_and_never_call_a_little_nothing() {
        let cases = [
            (None, "-"),
            (Some(0.0), "0"),
            (Some(0.01), "<0.1"),
            (Some(3.46), "3.5"),
            (Some(9.96), "10"),
            (Some(420.4), "420"),
            (Some(12_345.0), "12.3k"),
            (Some(999_949.0), "999.9k"),
            (Some(1_234_567.0), "1.2M"),
            (Some(5e9), "5G"),
        ];
        for (value, shown) in cases {
            assert_eq!(rate(value), shown);
        }
    }

    #[test]
    fn a_count_is_rounded_only_where_it_does_not_fit() {
        assert_eq!(count(Some(1_234_567), 7), "1234567");
        assert_eq!(count(Some(1_234_567), 6), "1.2M");
        assert_eq!(count(None, 6), "-");
    }

    #[test]
    fn ages_have_two_units() {
        let ages = [59.9, 60.0, 252.0, 11_100.0, 183_600.0].map(|seconds| age(Some(seconds)));
        assert_eq!(ages, ["59s", "1m00s", "4m12s", "3h05m", "2d03h"]);
    }

    #[test]
    fn a_trend_leaves_the_unknown_blank_and_shows_a_little_above_nothing() {
        assert_eq!(trend(&[None, Some(0.0), Some(1.0), Some(100.0)], 10), " ▁▂█");
        assert_eq!(trend(&[Some(9.0), Some(0.0), Some(0.0)], 2), "▁▁");
    }
}
