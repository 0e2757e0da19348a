//! The effect phase: outside systems are called outside any transaction, for many sagas at once, within limits.

use std::{cell::RefCell, panic::AssertUnwindSafe, rc::Rc};

use futures::{FutureExt, future::LocalBoxFuture};
use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::runtime::{
    Metrics, Shared,
    effects::breaker::{Breaker, Pass},
    in_flight::InFlight,
    stage::Stage,
    telemetry::metrics::{CallLabel, StepOnly},
};
use crate::{
    ErrorClass, StepError, barrier::Op, clock::Clock, handler::Call, participant::Participant, step::Erased,
    store::Store, trace::Around, transport::Producer,
};

/// Why an effect returned no answer.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The circuit breaker is open: nothing was called, and no attempt is used up. Ask again at this time.
    NotCalled { until: Timestamp },
    /// The call failed, or its answer is lost.
    Failed(StepError),
}

/// A guard per step: how many calls at once, and its circuit breaker.
pub(crate) struct Effects {
    guards: Vec<Rc<Guard>>,
}

/// The steps whose breaker is open.
#[derive(Default)]
pub(crate) struct Open {
    /// Nothing is called: their parked events stay where they are.
    pub(crate) resting: Vec<&'static str>,
    /// The next call is the trial.
    pub(crate) on_trial: Vec<&'static str>,
}

struct Guard {
    permits: Semaphore,
    breaker: RefCell<Breaker>,
}

impl Effects {
    pub(crate) fn new<S: Store, P: Producer, C: Clock>(shared: &Shared<S, P, C>) -> Self {
        let guard = |limits: &crate::step::EffectLimits| {
            Rc::new(Guard {
                permits: Semaphore::new(limits.concurrency.clamp(1, Semaphore::MAX_PERMITS)),
                breaker: RefCell::new(Breaker::new(limits.breaker.clone())),
            })
        };
        Self { guards: shared.participant.steps.iter().map(|step| guard(&step.effects)).collect() }
    }

    /// Asks the breaker for the event's call before its start is recorded, since an effect that was never started needs no
    /// compensating call. Returns when to ask again while the breaker is open.
    pub(crate) fn ask<S: Store, P: Producer, C: Clock>(
        &self,
        shared: &Shared<S, P, C>,
        event: &InFlight,
    ) -> Result<Pass, Timestamp> {
        let guard = &self.guards[event.step];
        let asked = guard.breaker.borrow_mut().admits(shared.clock.now());
        guard.show(&shared.metrics, event.name);
        if asked.is_err() {
            count(shared, event, "rejected");
        }
        asked
    }

    /// Gives back the permission of an event whose effect is not called.
    pub(crate) fn unused(&self, event: &InFlight, now: Timestamp) {
        if let Some(pass) = event.pass {
            self.guards[event.step].breaker.borrow_mut().unused(pass, now);
        }
    }

    /// The steps whose breaker is open.
    pub(crate) fn open<S: Store>(&self, participant: &Participant<S>, now: Timestamp) -> Open {
        let mut open = Open::default();
        for (guard, step) in self.guards.iter().zip(&participant.steps) {
            let breaker = guard.breaker.borrow();
            if breaker.closed_until(now).is_some() {
                open.resting.push(step.spec.name);
            } else if breaker.is_open() {
                open.on_trial.push(step.spec.name);
            }
        }
        open
    }

    /// Calls the event's effect. The future owns all it needs.
    pub(crate) fn call<S: Store, P: Producer, C: Clock>(
        &self,
        shared: Rc<Shared<S, P, C>>,
        mut event: InFlight,
    ) -> LocalBoxFuture<'static, (InFlight, Result<Erased, CallError>)> {
        let guard = self.guards[event.step].clone();
        async move {
            let _permit = guard.permits.acquire().await;
            let step = &shared.participant.steps[event.step];
            let abandons = event.stage == Stage::Abandon;
            let half = step.half(event.op);
            let effect = half.and_then(|half| if abandons { half.abandon.as_ref() } else { half.effect.as_ref() });
            let Some(effect) = effect else {
                return (event, Err(CallError::Failed(StepError::permanent("the step has no effect"))));
            };
            let admitted = {
                let mut breaker = guard.breaker.borrow_mut();
                let earlier = event.pass.take().filter(|pass| breaker.still_admits(*pass));
                earlier.map_or_else(|| breaker.admits(shared.clock.now()), Ok)
            };
            guard.show(&shared.metrics, event.name);
            let pass = match admitted {
                Ok(pass) => pass,
                Err(until) => {
                    count(&shared, &event, "rejected");
                    return (event, Err(CallError::NotCalled { until }));
                }
            };
            let op = if abandons { Op::Compensate } else { event.op };
            let span = shared.spans.new_span(&event.span.context, event.saga_id());
            let began = shared.clock.now();
            let call = Call {
                idempotency_key: if op == Op::Action { event.keys.action } else { event.keys.compensation },
                action_key: event.keys.action,
                saga_id: event.saga_id(),
                round: event.round,
                attempt: event.attempts + 1,
                trace: shared.spans.outgoing(&span).clone(),
            };
            let answer = AssertUnwindSafe(effect(call, event.input.clone())).catch_unwind();
            let user_spans = shared.spans.user(event.half, &[&span]);
            let answer = Around { lines: event.lines(), spans: user_spans.clone() }.run(answer);
            let timeout = shared.clock.sleep(step.effects.timeout);
            futures::pin_mut!(answer, timeout);
            let (result, ended) = match futures::future::select(answer, timeout).await {
                futures::future::Either::Left((Ok(Ok(answer)), _)) => (Ok(answer), "ok"),
                futures::future::Either::Left((Ok(Err(error)), _)) => (Err(error), "failed"),
                futures::future::Either::Left((Err(_), _)) => {
                    (Err(StepError::permanent("the effect panicked")), "failed")
                }
                futures::future::Either::Right(((), _)) => {
                    let error = format!("the outside system did not answer within {:?}", step.effects.timeout);
                    (Err(StepError::infrastructure(error)), "timeout")
                }
            };
            // Only failures of the outside system itself open the breaker; one declined card says nothing about other sagas.
            let down = result.as_ref().is_err_and(|e| e.class() == ErrorClass::Infrastructure);
            let end = shared.clock.now();
            guard.breaker.borrow_mut().record(pass, !down, end);
            let took = end.duration_since(began).as_secs_f64().max(0.0);
            shared.metrics.effect_seconds.get_or_create(&StepOnly { step: event.name }).observe(took);
            let name = if abandons { format!("void {}", event.name) } else { format!("effect {}", event.half) };
            let error = result.as_ref().err().map(ToString::to_string);
            if let Some(spans) = user_spans {
                spans.keep();
            }
            shared.spans.effect(&event, &span, name, (began, end), (ended, error));
            guard.show(&shared.metrics, event.name);
            count(&shared, &event, ended);
            (event, result.map_err(CallError::Failed))
        }
        .boxed_local()
    }
}

impl Guard {
    fn show(&self, metrics: &Metrics, step: &'static str) {
        metrics.breaker_open.get_or_create(&StepOnly { step }).set(i64::from(self.breaker.borrow().is_open()));
    }
}

fn count<S: Store, P: Producer, C: Clock>(shared: &Shared<S, P, C>, event: &InFlight, result: &'static str) {
    shared.metrics.effect_calls.get_or_create(&CallLabel { step: event.name, result }).inc();
}
