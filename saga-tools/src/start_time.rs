//! A start time given on the command line, absolute or relative.

use jiff::{SignedDuration, Timestamp};

/// A point in time, or a duration before now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StartTime {
    Ago(SignedDuration),
    At(Timestamp),
}

impl StartTime {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected a duration, such as 15m or 2h, or a time, such as {}", "2026-01-31T12:00:00Z");
        if let Ok(at) = text.parse() {
            return Ok(Self::At(at));
        }
        text.parse().ok().filter(|ago: &SignedDuration| !ago.is_negative()).map(Self::Ago).ok_or_else(wrong)
    }

    pub(crate) fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => now.checked_sub(ago).unwrap_or(Timestamp::UNIX_EPOCH),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_or_a_time_says_since_when() {
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        let since = |text| StartTime::parse(text).map(|since| since.resolve(now).to_string());
        assert_eq!(since("15m").as_deref(), Ok("2026-01-01T00:45:00Z"));
        assert_eq!(since("2025-12-31T00:00:00Z").as_deref(), Ok("2025-12-31T00:00:00Z"));
        assert!(since("-1h").is_err() && since("yesterday").is_err());
    }
}
