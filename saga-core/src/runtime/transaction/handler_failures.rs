//! Whose fault it is that the database refuses what a handler writes: that of one event, or, when the same refusal meets
//! one saga after another, that of a schema, a trigger or a right. A statement that is wrong is never an event's.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use jiff::Timestamp;

use crate::runtime::{in_flight::InFlight, stage::Stage};
use crate::{barrier::Op, clock::after, event::SagaId, store::Refusal};

/// So many sagas in a row are met by the same refusal before it is taken for everybody's.
const MANY: u32 = 3;
/// As long as it is everybody's, so many events of the step are tried in so long, to see whether the cause has been mended; the
/// others wait. Several, so that some bad ones do not stand before all good ones for long.
const PROBES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(5);
/// What is stopped for an hour, or waits for a lost line, does not take that long by itself.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(90);
/// An event that fails is tried more often than this. What has not been met for so long is gone, with the event that met it.
const LINGERS: Duration = Duration::from_secs(900);

/// What has failed after so long is left alone for ten times as long, so that most of the time is that of the others.
pub(crate) fn pause_after(took: Duration) -> Duration {
    (took * 10).min(LONGEST_PAUSE)
}

/// A handler: that of a half of a step, or the one that refuses when the retries of its action are used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HandlerId {
    pub(crate) step: usize,
    pub(crate) op: Op,
    pub(crate) exhausted: bool,
}

impl HandlerId {
    /// The one that runs in the event's transaction.
    pub(crate) fn of(event: &InFlight) -> Self {
        Self { step: event.step, op: event.op, exhausted: event.stage == Stage::Exhaust }
    }
}

/// The handlers that are refused, since they last worked. Pure.
#[derive(Debug, Default)]
pub(crate) struct HandlerFailures(HashMap<HandlerId, Failures>);

#[derive(Debug)]
struct Failures {
    /// What the refusals in a row have in common.
    kind: String,
    why: String,
    /// The sagas that it met last: those of them that are parked meet it again and again.
    recent: VecDeque<SagaId>,
    sagas: u32,
    /// When it was met last.
    met: Timestamp,
    /// Until when no more fresh ones and no more parked ones than these are tried: many bad ones that are parked must not take
    /// the turns of good ones.
    windows: [(Timestamp, u32); 2],
    /// Readiness has been told of it.
    told: bool,
}

/// The kind of a statement that is wrong, whatever is wrong with it.
const BROKEN: &str = "";

impl HandlerFailures {
    /// The database refused an event. Returns whether that is no longer taken for the event's fault.
    pub(crate) fn refused(&mut self, handler: HandlerId, why: &Refusal, saga: SagaId, now: Timestamp) -> bool {
        let known = self.suspect(handler, (why.kind(), &why.to_string()), saga, now);
        let fails_for_everybody = known.sagas > MANY;
        known.told |= fails_for_everybody;
        fails_for_everybody
    }

    /// A statement of the handler's is wrong, which is no event's fault from the first one on.
    pub(crate) fn broken(&mut self, handler: HandlerId, why: &str, saga: SagaId, now: Timestamp) {
        self.suspect(handler, (BROKEN, why), saga, now).told = true;
    }

    fn suspect(
        &mut self,
        handler: HandlerId,
        (kind, why): (&str, &str),
        saga: SagaId,
        now: Timestamp,
    ) -> &mut Failures {
        let known = self.0.entry(handler).or_insert_with(|| Failures::new(kind, why, now));
        known.met = now;
        if known.kind != kind {
            (known.kind, known.why) = (kind.to_owned(), why.to_owned());
            // It has not worked meanwhile: what is everybody's fault stays so.
            if known.sagas <= MANY {
                *known = Failures { told: known.told, ..Failures::new(kind, why, now) };
            }
        }
        if !known.recent.contains(&saga) {
            known.sagas = known.sagas.saturating_add(1);
            known.recent.push_back(saga);
            if known.recent.len() > MANY as usize {
                known.recent.pop_front();
            }
        }
        known
    }

    /// Why an event of this handler waits; none when it may be tried now.
    pub(crate) fn holds(&mut self, handler: HandlerId, parked: bool, now: Timestamp) -> Option<String> {
        let known = self.0.get_mut(&handler).filter(|known| known.sagas > MANY)?;
        let (end, left) = &mut known.windows[usize::from(parked)];
        // The clock may have been set back.
        if now >= *end || *end > after(now, LONGEST_PAUSE) {
            (*end, *left) = (after(now, WINDOW), PROBES);
        }
        match left.checked_sub(1) {
            Some(fewer) => {
                *left = fewer;
                None
            }
            None if known.kind == BROKEN => Some(format!("its statement is wrong: {}", known.why)),
            None => Some(format!("refused for one saga after another: {}", known.why)),
        }
    }

    /// A handler worked. Says whether readiness had been told of it.
    pub(crate) fn worked(&mut self, handler: HandlerId) -> bool {
        self.0.remove(&handler).is_some_and(|known| known.told)
    }

    /// What nothing has met for long is no matter of readiness any more: whatever failed is gone. Returns whether there was
    /// any. The count stays, however rare the events are, and however long nothing could be tried.
    pub(crate) fn forget(&mut self, now: Timestamp) -> bool {
        // The clock may have been set back.
        self.0.values_mut().for_each(|known| known.met = known.met.min(now));
        let is_over = |known: &&mut Failures| known.told && now >= after(known.met, LINGERS);
        self.0.values_mut().filter(is_over).map(|known| known.told = false).count() > 0
    }

    /// A try of what meets everybody took long: the next ones wait so many times as long, so that most of the time is that of
    /// the other handlers.
    pub(crate) fn took_long(&mut self, handler: HandlerId, took: Duration, now: Timestamp) {
        let Some(known) = self.0.get_mut(&handler).filter(|known| known.sagas > MANY) else { return };
        let end = after(now, pause_after(took).max(WINDOW));
        // One more of each, lest the one that fails is always the first.
        known.windows = [(end, 1); 2];
    }

    /// Whether no handler is under any suspicion.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it meets everybody, and why.
    pub(crate) fn fails_for_everybody(&self, handler: HandlerId) -> Option<&str> {
        self.0.get(&handler).filter(|known| known.sagas > MANY).map(|known| known.why.as_str())
    }

    /// Whether readiness has been told of none.
    pub(crate) fn is_clear(&self) -> bool {
        self.0.values().all(|known| !known.told)
    }
}

impl Failures {
    fn new(kind: &str, why: &str, now: Timestamp) -> Self {
        let windows = [(after(now, WINDOW), 0); 2];
        Self {
            kind: kind.to_owned(),
            why: why.to_owned(),
            recent: VecDeque::new(),
            sagas: 0,
            met: now,
            windows,
            told: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAKE: HandlerId = HandlerId { step: 0, op: Op::Action, exhausted: false };
    const OTHER: HandlerId = HandlerId { step: 1, ..TAKE };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn refused(handler_failures: &mut HandlerFailures, handler: HandlerId, kind: &str, saga: SagaId) -> bool {
        handler_failures.refused(handler, &Refusal::new(kind, format!("{kind}: key (id)=({saga})")), saga, at(0))
    }

    fn suspected() -> HandlerFailures {
        let mut handler_failures = HandlerFailures::default();
        let refused = [(); 5].map(|()| refused(&mut handler_failures, TAKE, "23502", SagaId::random()));
        assert_eq!(refused, [false, false, false, true, true]);
        handler_failures
    }

    #[test]
    fn a_refusal_that_meets_many_sagas_in_a_row_is_everybodys_whatever_values_it_quotes() {
        let mut handler_failures = suspected();
        assert!(!handler_failures.is_clear());
        assert!(!refused(&mut handler_failures, OTHER, "23502", SagaId::random()), "another step begins anew");
    }

    #[test]
    fn another_refusal_begins_anew_until_one_is_everybodys_and_clears_nothing_then() {
        let mut handler_failures = HandlerFailures::default();
        for kind in ["23502", "23514", "23502", "23514", "23502", "23514"] {
            assert!(!refused(&mut handler_failures, TAKE, kind, SagaId::random()));
        }
        let mut handler_failures = suspected();
        assert!(refused(&mut handler_failures, TAKE, "23514", SagaId::random()), "nothing has worked meanwhile");
        assert!(!handler_failures.is_clear());
        assert!(handler_failures.worked(TAKE) && handler_failures.is_clear());
    }

    #[test]
    fn a_wrong_statement_is_told_at_once_and_stops_its_step_only_when_it_meets_many() {
        let mut handler_failures = HandlerFailures::default();
        handler_failures.broken(TAKE, "no such column", SagaId::random(), at(0));
        assert!(!handler_failures.is_clear());
        assert_eq!(handler_failures.holds(TAKE, false, at(0)), None);
        assert!(!refused(&mut handler_failures, TAKE, "23502", SagaId::random()));
        assert!(!handler_failures.is_clear(), "it is still to be mended");
        for _ in 0..4 {
            handler_failures.broken(TAKE, "no such column", SagaId::random(), at(0));
        }
        assert_eq!(
            handler_failures.holds(TAKE, false, at(0)),
            Some("its statement is wrong: no such column".to_owned())
        );
        assert!(handler_failures.worked(TAKE) && handler_failures.is_clear());
    }

    #[test]
    fn what_has_not_been_met_for_long_is_forgotten() {
        let mut handler_failures = HandlerFailures::default();
        handler_failures.broken(TAKE, "no such column", SagaId::random(), at(0));
        assert!(!handler_failures.forget(at(899)) && !handler_failures.is_clear());
        assert!(handler_failures.forget(at(900)) && handler_failures.is_clear());
        let mut handler_failures = HandlerFailures::default();
        assert!(!refused(&mut handler_failures, TAKE, "23502", SagaId::random()));
        assert!(!handler_failures.forget(at(900)), "nobody was told of it");
    }

    #[test]
    fn what_was_everybodys_is_so_again_after_a_long_outage() {
        let mut handler_failures = suspected();
        assert!(handler_failures.forget(at(900)) && handler_failures.is_clear());
        assert!(refused(&mut handler_failures, TAKE, "23502", SagaId::random()), "nothing has worked meanwhile");
        assert!(!handler_failures.is_clear());
    }

    #[test]
    fn two_sagas_in_turns_are_two() {
        let (mut handler_failures, sagas) =
            (HandlerFailures::default(), [SagaId::random(), SagaId::random(), SagaId::random()]);
        assert!((0..30).all(|i| !refused(&mut handler_failures, TAKE, "23502", sagas[i % 3])));
    }

    #[test]
    fn refusals_are_counted_however_rare_the_events_are() {
        let mut handler_failures = HandlerFailures::default();
        let fails_for_everybody = [0, 901, 1802, 2703].map(|second| {
            handler_failures.forget(at(second));
            refused(&mut handler_failures, TAKE, "23502", SagaId::random())
        });
        assert_eq!(fails_for_everybody, [false, false, false, true]);
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nothing_for_longer() {
        let mut handler_failures = suspected();
        (0..=PROBES).for_each(|_| drop(handler_failures.holds(TAKE, false, at(10_000))));
        assert!(handler_failures.holds(TAKE, false, at(10_000)).is_some());
        assert_eq!(handler_failures.holds(TAKE, false, at(100)), None);
    }

    #[test]
    fn one_saga_that_is_refused_again_and_again_is_one() {
        let (mut handler_failures, saga) = (HandlerFailures::default(), SagaId::random());
        assert!((0..20).all(|_| !refused(&mut handler_failures, TAKE, "23502", saga)));
        assert_eq!(handler_failures.holds(TAKE, false, at(0)), None);
    }

    #[test]
    fn a_suspected_step_is_tried_with_some_events_at_a_time_and_others_as_usual() {
        let mut handler_failures = suspected();
        assert!(handler_failures.holds(TAKE, false, at(4)).unwrap().contains("23502"));
        for _ in 0..PROBES {
            assert_eq!(handler_failures.holds(TAKE, true, at(5)), None);
        }
        assert!(handler_failures.holds(TAKE, true, at(5)).is_some());
        assert_eq!(handler_failures.holds(TAKE, false, at(9)), None, "the turns of fresh ones are their own");
        assert!(handler_failures.holds(TAKE, true, at(9)).is_some());
        assert_eq!(handler_failures.holds(TAKE, true, at(10)), None);
        assert_eq!(handler_failures.holds(HandlerId { op: Op::Compensate, ..TAKE }, false, at(4)), None);
    }

    #[test]
    fn a_handler_that_works_for_others_clears_what_it_is_suspected_of() {
        let mut handler_failures = suspected();
        assert!(!handler_failures.worked(OTHER), "another step's success says nothing");
        assert!(handler_failures.worked(TAKE) && handler_failures.is_clear());
        assert!(!refused(&mut handler_failures, TAKE, "23502", SagaId::random()));
    }
}
