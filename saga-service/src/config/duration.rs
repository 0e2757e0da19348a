//! Durations as people write them.

use std::{ops::RangeInclusive, time::Duration};

/// Reads a duration such as `5m`, `1h 30m`, `90s` or `500ms`.
///
/// ```
/// use std::time::Duration;
/// use saga_service::config::duration;
///
/// let up_to_an_hour = Duration::ZERO..=Duration::from_secs(3600);
/// assert_eq!(duration("1m 30s", &up_to_an_hour), Ok(Duration::from_secs(90)));
/// assert!(duration("90", &up_to_an_hour).is_err());
/// assert!(duration("2h", &up_to_an_hour).is_err());
/// ```
///
/// # Errors
/// What is wrong with the text.
pub fn duration(text: &str, within: &RangeInclusive<Duration>) -> Result<Duration, String> {
    let span: jiff::SignedDuration =
        text.parse().map_err(|_| "must be a duration such as 5m, 90s or 500ms".to_owned())?;
    let (least, most) = (within.start(), within.end());
    Duration::try_from(span)
        .ok()
        .filter(|duration| within.contains(duration))
        .ok_or_else(|| format!("must be a duration from {least:?} to {most:?}"))
}
