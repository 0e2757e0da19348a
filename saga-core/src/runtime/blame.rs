//! Whose fault it is that the database refuses what a handler writes: that of one event, or, when the same refusal meets
//! one saga after another, that of a schema, a trigger or a right. A statement that is wrong is never an event's.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;

use crate::{barrier::Op, clock::after, event::SagaId, store::Refusal};

/// So many sagas in a row are met by the same refusal before it is taken for everybody's.
const MANY: u32 = 3;
/// As long as it is everybody's, so many events of the step are tried in so long, to see whether the cause has been mended; the
/// others wait. Several, so that some bad ones do not stand before all good ones for long.
const PROBES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(5);

/// A half of a step.
type Half = (usize, Op);

/// The halves of steps that are refused, since they last worked. Pure.
#[derive(Debug, Default)]
pub(super) struct Blame(HashMap<Half, Suspicion>);

#[derive(Debug)]
struct Suspicion {
    /// What the refusals in a row have in common.
    kind: String,
    why: String,
    last: SagaId,
    sagas: u32,
    /// Until when no more fresh ones and no more parked ones than these are tried: many bad ones that are parked must not take
    /// the turns of good ones.
    windows: [(Timestamp, u32); 2],
    /// Readiness has been told of it.
    told: bool,
}

/// The kind of a statement that is wrong, whatever is wrong with it.
const BROKEN: &str = "";

impl Blame {
    /// The database refused an event. Returns whether that is no longer taken for the event's fault.
    pub(super) fn refused(&mut self, half: Half, why: &Refusal, saga: SagaId, now: Timestamp) -> bool {
        let known = self.suspect(half, (why.kind(), &why.to_string()), saga, now);
        let everybodys = known.sagas > MANY;
        known.told |= everybodys;
        everybodys
    }

    /// A statement of the handler's is wrong, which is no event's fault from the first one on.
    pub(super) fn broken(&mut self, half: Half, why: &str, saga: SagaId, now: Timestamp) {
        self.suspect(half, (BROKEN, why), saga, now).told = true;
    }

    fn suspect(&mut self, half: Half, (kind, why): (&str, &str), saga: SagaId, now: Timestamp) -> &mut Suspicion {
        let known = self.0.entry(half).or_insert_with(|| Suspicion::new(kind, why, saga, now));
        if known.kind != kind {
            (known.kind, known.why) = (kind.to_owned(), why.to_owned());
            // Nothing of the half has worked meanwhile: what is everybody's fault stays so.
            if known.sagas <= MANY {
                *known = Suspicion { told: known.told, ..Suspicion::new(kind, why, saga, now) };
            }
        }
        if known.sagas == 0 || known.last != saga {
            known.sagas = known.sagas.saturating_add(1);
            known.last = saga;
        }
        known
    }

    /// Why an event of this half waits; none when it may be tried now.
    pub(super) fn holds(&mut self, half: Half, parked: bool, now: Timestamp) -> Option<&str> {
        let known = self.0.get_mut(&half).filter(|known| known.sagas > MANY)?;
        let (end, left) = &mut known.windows[usize::from(parked)];
        if now >= *end {
            (*end, *left) = (after(now, WINDOW), PROBES);
        }
        match left.checked_sub(1) {
            Some(fewer) => {
                *left = fewer;
                None
            }
            None => Some(&known.why),
        }
    }

    /// A handler worked. Says whether readiness had been told of it.
    pub(super) fn worked(&mut self, half: Half) -> bool {
        self.0.remove(&half).is_some_and(|known| known.told)
    }

    /// Whether readiness has been told of none.
    pub(super) fn is_clear(&self) -> bool {
        self.0.values().all(|known| !known.told)
    }
}

impl Suspicion {
    fn new(kind: &str, why: &str, last: SagaId, now: Timestamp) -> Self {
        let windows = [(after(now, WINDOW), 0); 2];
        Self { kind: kind.to_owned(), why: why.to_owned(), last, sagas: 0, windows, told: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAKE: Half = (0, Op::Action);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn refused(blame: &mut Blame, half: Half, kind: &str, saga: SagaId) -> bool {
        blame.refused(half, &Refusal::new(kind, format!("{kind}: key (id)=({saga})")), saga, at(0))
    }

    fn suspected() -> Blame {
        let mut blame = Blame::default();
        let refused = [(); 5].map(|()| refused(&mut blame, TAKE, "23502", SagaId::random()));
        assert_eq!(refused, [false, false, false, true, true]);
        blame
    }

    #[test]
    fn a_refusal_that_meets_many_sagas_in_a_row_is_everybodys_whatever_values_it_quotes() {
        let mut blame = suspected();
        assert!(!blame.is_clear());
        assert!(!refused(&mut blame, (1, Op::Action), "23502", SagaId::random()), "another step begins anew");
    }

    #[test]
    fn another_refusal_begins_anew_until_one_is_everybodys_and_clears_nothing_then() {
        let mut blame = Blame::default();
        for kind in ["23502", "23514", "23502", "23514", "23502", "23514"] {
            assert!(!refused(&mut blame, TAKE, kind, SagaId::random()));
        }
        let mut blame = suspected();
        assert!(refused(&mut blame, TAKE, "23514", SagaId::random()), "nothing has worked meanwhile");
        assert!(!blame.is_clear());
        assert!(blame.worked(TAKE) && blame.is_clear());
    }

    #[test]
    fn a_wrong_statement_is_told_at_once_and_stops_its_step_only_when_it_meets_many() {
        let mut blame = Blame::default();
        blame.broken(TAKE, "no such column", SagaId::random(), at(0));
        assert!(!blame.is_clear());
        assert_eq!(blame.holds(TAKE, false, at(0)), None);
        assert!(!refused(&mut blame, TAKE, "23502", SagaId::random()));
        assert!(!blame.is_clear(), "it is still to be mended");
        for _ in 0..4 {
            blame.broken(TAKE, "no such column", SagaId::random(), at(0));
        }
        assert_eq!(blame.holds(TAKE, false, at(0)), Some("no such column"));
        assert!(blame.worked(TAKE) && blame.is_clear());
    }

    #[test]
    fn one_saga_that_is_refused_again_and_again_is_one() {
        let (mut blame, saga) = (Blame::default(), SagaId::random());
        assert!((0..20).all(|_| !refused(&mut blame, TAKE, "23502", saga)));
        assert_eq!(blame.holds(TAKE, false, at(0)), None);
    }

    #[test]
    fn a_suspected_step_is_tried_with_some_events_at_a_time_and_others_as_usual() {
        let mut blame = suspected();
        assert!(blame.holds(TAKE, false, at(4)).unwrap().starts_with("23502"));
        for _ in 0..PROBES {
            assert_eq!(blame.holds(TAKE, true, at(5)), None);
        }
        assert!(blame.holds(TAKE, true, at(5)).is_some());
        assert_eq!(blame.holds(TAKE, false, at(9)), None, "the turns of fresh ones are their own");
        assert!(blame.holds(TAKE, true, at(9)).is_some());
        assert_eq!(blame.holds(TAKE, true, at(10)), None);
        assert_eq!(blame.holds((0, Op::Compensate), false, at(4)), None);
    }

    #[test]
    fn a_handler_that_works_for_others_clears_what_it_is_suspected_of() {
        let mut blame = suspected();
        assert!(!blame.worked((1, Op::Action)), "another step's success says nothing");
        assert!(blame.worked(TAKE) && blame.is_clear());
        assert!(!refused(&mut blame, TAKE, "23502", SagaId::random()));
    }
}
