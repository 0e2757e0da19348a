//! Which traces are recorded, as `OTEL_TRACES_SAMPLER` says.

/// The bits of a trace id that W3C trace context calls random.
const RANDOM_BITS: u32 = 56;

/// A sampler. Decides by the caller's decision and by the trace id alone, so that every participant decides alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sampling {
    /// Whether a caller's decision holds.
    parent_based: bool,
    /// The ids that are rejected, of those that count up to 2^56.
    rejected_below: u64,
}

impl Sampling {
    /// Records everything, or what a caller records.
    pub(crate) const ALWAYS_ON: Self = Self { parent_based: false, rejected_below: 0 };
    /// Records nothing, or only what a caller records.
    pub(crate) const ALWAYS_OFF: Self = Self { parent_based: false, rejected_below: 1 << RANDOM_BITS };

    /// Records this share of all traces, from 0 to 1.
    pub(crate) fn ratio(share: f64) -> Self {
        let all = (1_u64 << RANDOM_BITS) as f64;
        Self { parent_based: false, rejected_below: ((1.0 - share) * all) as u64 }
    }

    /// The same where there is no caller; where there is one, what it has decided.
    pub(crate) fn parent_based(self) -> Self {
        Self { parent_based: true, ..self }
    }

    /// The SDK's own sampler reads the upper bits of an id's second half. In a UUID, and a saga's id is one, those are
    /// always the same. The last 56 are random in all kinds of UUID that are in use for ids.
    pub(crate) fn samples(self, parent: Option<bool>, trace_id: &[u8; 16]) -> bool {
        match parent {
            Some(decided) if self.parent_based => decided,
            _ => {
                (u128::from_be_bytes(*trace_id) as u64) << (64 - RANDOM_BITS) >> (64 - RANDOM_BITS)
                    >= self.rejected_below
            }
        }
    }
}

impl Default for Sampling {
    fn default() -> Self {
        Self::ALWAYS_ON.parent_based()
    }
}

#[cfg(test)]
mod tests {
    use uuid::{NoContext, Timestamp, Uuid};

    use super::*;

    #[test]
    fn a_share_of_uuids_is_that_share() {
        let v7 = || Uuid::new_v7(Timestamp::from_unix(NoContext, 1_800_000_000, 0));
        for make in [Uuid::new_v4, v7] {
            let sampled = (0..10_000).filter(|_| Sampling::ratio(0.1).samples(None, make().as_bytes())).count();
            assert!((700..1300).contains(&sampled), "{sampled}");
        }
    }

    #[test]
    fn none_and_all_are_exactly_that() {
        for id in [[0; 16], [0xff; 16], Uuid::new_v4().into_bytes()] {
            assert!(Sampling::ratio(1.0).samples(None, &id) && Sampling::ALWAYS_ON.samples(None, &id));
            assert!(!Sampling::ratio(0.0).samples(None, &id) && !Sampling::ALWAYS_OFF.samples(None, &id));
        }
    }

    #[test]
    fn a_callers_decision_holds_only_when_it_is_asked_for() {
        let id = [1; 16];
        assert!(Sampling::ALWAYS_ON.samples(Some(false), &id));
        assert!(!Sampling::ALWAYS_ON.parent_based().samples(Some(false), &id));
        assert!(Sampling::ALWAYS_OFF.parent_based().samples(Some(true), &id));
        assert!(!Sampling::ALWAYS_OFF.parent_based().samples(None, &id));
    }
}
