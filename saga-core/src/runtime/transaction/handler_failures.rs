//! Whether a failure in the database is one event's or its handler's. The same refusal for one saga after another points to a
//! schema, a trigger or a right. A wrong statement is always the handler's.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use jiff::Timestamp;

use crate::runtime::{in_flight::InFlight, stage::Stage};
use crate::{barrier::Op, clock::after, event::SagaId, store::Refusal};

/// A handler that fails for more sagas in a row than this fails for all of them.
const MANY: u32 = 3;
/// How many events of a failing handler are tried per window, to see whether the cause is mended. The others wait. It is more
/// than one, so that a few bad events do not keep the good ones waiting.
const PROBES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(5);
/// The longest pause. A process that was stopped for an hour has not spent an hour on the attempt.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(90);
/// Failing events are tried more often than this. A failure that no event has met for so long is gone.
const LINGERS: Duration = Duration::from_secs(900);

/// The pause after a slow failure: ten times as long, so that most of the time is left for the others.
pub(crate) fn pause_after(took: Duration) -> Duration {
    (took * 10).min(LONGEST_PAUSE)
}

/// Names a handler: that of a half of a step, or the one that refuses when the action's retries are used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HandlerId {
    pub(crate) step: usize,
    pub(crate) op: Op,
    pub(crate) exhausted: bool,
}

impl HandlerId {
    /// The handler that runs in the event's transaction.
    pub(crate) fn of(event: &InFlight) -> Self {
        Self { step: event.step, op: event.op, exhausted: event.stage == Stage::Exhaust }
    }
}

/// Failures of handlers since they last worked. Pure.
#[derive(Debug, Default)]
pub(crate) struct HandlerFailures(HashMap<HandlerId, Failures>);

#[derive(Debug)]
struct Failures {
    /// The kind of the refusals in a row.
    kind: String,
    why: String,
    /// The last sagas that failed. Those that are parked fail repeatedly, and count once.
    recent: VecDeque<SagaId>,
    sagas: u32,
    /// When it failed last.
    met: Timestamp,
    /// The current window for fresh events, and the one for parked events: its end, and how many more are tried in it. They are
    /// apart, so that many bad parked events do not take the probes of fresh ones.
    windows: [(Timestamp, u32); 2],
    /// Whether readiness shows it.
    in_readiness: bool,
}

/// The kind of every wrong statement.
const BROKEN: &str = "";

impl HandlerFailures {
    /// Notes that the database refused an event. Returns whether the handler fails for all sagas.
    pub(crate) fn refused(&mut self, handler: HandlerId, why: &Refusal, saga: SagaId, now: Timestamp) -> bool {
        let known = self.suspect(handler, (why.kind(), &why.to_string()), saga, now);
        let fails_for_everybody = known.sagas > MANY;
        known.in_readiness |= fails_for_everybody;
        fails_for_everybody
    }

    /// Notes a wrong statement: the handler fails for all sagas from the first time on.
    pub(crate) fn broken(&mut self, handler: HandlerId, why: &str, saga: SagaId, now: Timestamp) {
        self.suspect(handler, (BROKEN, why), saga, now).in_readiness = true;
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
            // It has not worked meanwhile, so it still fails for all sagas.
            if known.sagas <= MANY {
                *known = Failures { in_readiness: known.in_readiness, ..Failures::new(kind, why, now) };
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

    /// Notes that a handler worked. Returns whether readiness showed its failure.
    pub(crate) fn worked(&mut self, handler: HandlerId) -> bool {
        self.0.remove(&handler).is_some_and(|known| known.in_readiness)
    }

    /// Removes from readiness what has not failed for long. Returns whether there was any. The count of sagas stays, however rare
    /// the events are.
    pub(crate) fn forget(&mut self, now: Timestamp) -> bool {
        // The clock may have been set back.
        self.0.values_mut().for_each(|known| known.met = known.met.min(now));
        let is_over = |known: &&mut Failures| known.in_readiness && now >= after(known.met, LINGERS);
        self.0.values_mut().filter(is_over).map(|known| known.in_readiness = false).count() > 0
    }

    /// Notes that an attempt of a failing handler was slow. The next ones wait ten times as long, so that most of the time is left
    /// for other handlers.
    pub(crate) fn took_long(&mut self, handler: HandlerId, took: Duration, now: Timestamp) {
        let Some(known) = self.0.get_mut(&handler).filter(|known| known.sagas > MANY) else { return };
        let end = after(now, pause_after(took).max(WINDOW));
        // One more of each, in case the first is the one that fails.
        known.windows = [(end, 1); 2];
    }

    /// Whether no handler has failed since it last worked.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Why the handler fails for all sagas; none when it does not.
    pub(crate) fn fails_for_everybody(&self, handler: HandlerId) -> Option<&str> {
        self.0.get(&handler).filter(|known| known.sagas > MANY).map(|known| known.why.as_str())
    }

    /// Whether readiness shows no handler.
    pub(crate) fn is_clear(&self) -> bool {
        self.0.values().all(|known| !known.in_readiness)
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
            in_readiness: false,
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
        assert!(!handler_failures.forget(at(900)), "readiness did not show it");
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
