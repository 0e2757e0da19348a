//! How long a saga's waits last, when a handler decides it and not the declaration.

use std::{collections::BTreeMap, time::Duration};

use super::Cx;
use crate::{
    event::SagaId,
    graph::StepSpec,
    outcome::StepError,
    store::{Store, TimerKind},
};

/// The durations that a handler has chosen.
pub(crate) type ChosenWaits = BTreeMap<(SagaId, TimerKind), Duration>;

/// For an action, also the second half of one with an effect: how long the participant waits after it. The duration may
/// come from the event or from a row. Without these, the declared duration counts, which is also the one that graphs
/// show. The handler of a step that declares no such deadline fails permanently; a refusal arms nothing.
impl<S: Store> Cx<'_, S> {
    /// How long the wait of [`Step::deadline`](crate::Step::deadline) lasts: in the event's saga, and in a set-based handler
    /// in every saga of the set.
    ///
    /// ```
    /// # use std::time::Duration; use saga_core::{handler::Cx, store::Store};
    /// # fn example<S: Store>(cx: &mut Cx<'_, S>, days: u64) {
    /// cx.deadline(Duration::from_secs(days * 24 * 3600));
    /// # }
    /// ```
    pub fn deadline(&mut self, after: Duration) {
        self.choose(TimerKind::Step, after);
    }

    /// As [`Cx::deadline`], in one saga of a set.
    pub fn deadline_of(&mut self, saga_id: SagaId, after: Duration) {
        self.waits.insert((saga_id, TimerKind::Step), after);
    }

    /// How long the wait of [`Step::saga_deadline`](crate::Step::saga_deadline) lasts; otherwise as [`Cx::deadline`].
    pub fn saga_deadline(&mut self, after: Duration) {
        self.choose(TimerKind::Saga, after);
    }

    /// As [`Cx::saga_deadline`], in one saga of a set.
    pub fn saga_deadline_of(&mut self, saga_id: SagaId, after: Duration) {
        self.waits.insert((saga_id, TimerKind::Saga), after);
    }

    fn choose(&mut self, kind: TimerKind, after: Duration) {
        match self.saga_id() {
            Some(saga_id) => drop(self.waits.insert((saga_id, kind), after)),
            None => self.waits.extend(self.sagas.iter().map(|saga| ((saga.saga_id, kind), after))),
        }
    }

    /// What the handler has chosen; `step` is the one whose action it is.
    pub(crate) fn take_waits(&mut self, step: Option<&StepSpec>) -> Result<ChosenWaits, StepError> {
        let chosen = std::mem::take(&mut self.waits);
        for (saga_id, kind) in chosen.keys() {
            if self.sagas.iter().all(|saga| saga.saga_id != *saga_id) {
                return Err(StepError::permanent(format!(
                    "the handler was not called for {saga_id}: it waits for nothing"
                )));
            }
            let Some(step) = step else {
                return Err(StepError::permanent("only the action of a step decides how long its saga waits"));
            };
            let (declared, add) = match kind {
                TimerKind::Step => (&step.deadline, ".deadline(..)"),
                TimerKind::Saga => (&step.saga_deadline, ".saga_deadline(..)"),
                TimerKind::Arrivals => continue,
            };
            if declared.is_none() {
                let name = step.name;
                return Err(StepError::permanent(format!("{name} declares no such deadline: add {add} to the step")));
            }
        }
        Ok(chosen)
    }
}
