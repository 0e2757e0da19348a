//! A participant: a service's declared part in a choreography. The same value runs the service and draws the graph.

use std::collections::BTreeSet;

use crate::{
    barrier::Op,
    event::{Event, EventType},
    graph::{Accepted, Declaration, End, Ending, Finding, Rule, StepSpec},
    handler::Emit,
    step::{ErasedStep, Step},
    store::{Store, TimerKind},
};

/// A service's steps, and nothing else.
///
/// ```
/// use saga_core::{Event, Outcome, Participant, Step, StepError, StepResult, handler::Cx, testing::MemoryStore};
/// use serde::{Deserialize, Serialize};
/// use schemars::JsonSchema;
/// use uuid::Uuid;
///
/// #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
/// #[event(name = "order.created", topic = "order.events", saga = "order_id")]
/// struct OrderCreated { order_id: Uuid, sku: String }
///
/// #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
/// #[event(name = "inventory.reserved", topic = "inventory.events", saga = "order_id")]
/// struct InventoryReserved { order_id: Uuid }
///
/// #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
/// #[event(name = "inventory.rejected", topic = "inventory.events", saga = "order_id")]
/// struct InventoryRejected { order_id: Uuid, reason: String }
///
/// #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
/// #[event(name = "payment.declined", topic = "payment.events", saga = "order_id")]
/// struct PaymentDeclined { order_id: Uuid, reason: String }
///
/// #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
/// #[event(name = "inventory.released", topic = "inventory.events", saga = "order_id")]
/// struct InventoryReleased { order_id: Uuid, reason: String }
///
/// impl From<PaymentDeclined> for InventoryReleased {
///     fn from(why: PaymentDeclined) -> Self { Self { order_id: why.order_id, reason: why.reason } }
/// }
///
/// async fn reserve(cx: &mut Cx<'_, MemoryStore>, order: OrderCreated) -> StepResult<InventoryReserved, InventoryRejected> {
///     let left: u32 = cx.tx().get(&order.sku).unwrap_or(0);
///     if left == 0 {
///         let reason = "out_of_stock".to_owned();
///         return Ok(Outcome::Refused(InventoryRejected { order_id: order.order_id, reason }));
///     }
///     cx.tx().put(&order.sku, &(left - 1));
///     cx.tx().put(&format!("held/{}", order.order_id), &order.sku);
///     Ok(Outcome::Success(InventoryReserved { order_id: order.order_id }))
/// }
///
/// async fn release(cx: &mut Cx<'_, MemoryStore>, why: PaymentDeclined) -> Result<InventoryReleased, StepError> {
///     if let Some(sku) = cx.tx().get::<String>(&format!("held/{}", why.order_id)) {
///         let left: u32 = cx.tx().get(&sku).unwrap_or(0);
///         cx.tx().put(&sku, &(left + 1));
///     }
///     Ok(why.into())
/// }
///
/// let inventory = Participant::named("inventory").step(Step::new("reserve", reserve).undone_by(release));
/// assert_eq!(inventory.declaration().steps[0].name, "reserve");
/// ```
pub struct Participant<S: Store> {
    pub(crate) name: &'static str,
    pub(crate) steps: Vec<ErasedStep<S>>,
    publishes: Vec<EventType>,
    ends: Vec<End>,
    accepted: Vec<Accepted>,
    optional: bool,
}

impl<S: Store> Participant<S> {
    /// A participant without steps. The name is its consumer group, its `ce_source` and the stem of its dead-letter topic.
    pub fn named(name: &'static str) -> Self {
        let (publishes, ends, accepted) = (Vec::new(), Vec::new(), Vec::new());
        Self { name, steps: Vec::new(), publishes, ends, accepted, optional: false }
    }

    /// Adds a step.
    #[must_use]
    pub fn step<T, O: Emit, R: Emit, U>(mut self, step: Step<S, T, O, R, U>) -> Self {
        self.steps.push(step.into());
        self
    }

    /// Declares an event that the participant publishes outside any step, for example on a request.
    #[must_use]
    pub fn publishes<E: Event>(mut self) -> Self {
        self.publishes.push(EventType::of::<E>());
        self
    }

    /// Declares an event that ends a saga whose steps have all succeeded.
    #[must_use]
    pub fn completes_with<E: Event>(mut self) -> Self {
        self.ends.push(End { event: EventType::of::<E>(), ending: Ending::Completed });
        self
    }

    /// Declares an event that ends a saga whose steps are all compensated.
    #[must_use]
    pub fn compensates_with<E: Event>(mut self) -> Self {
        self.ends.push(End { event: EventType::of::<E>(), ending: Ending::Compensated });
        self
    }

    /// Declares that no saga waits for this participant: it sends a mail, or calls a webhook. It is outside of how a saga ends,
    /// and its failure stops nothing: its dead letters wait for an operator, and the sagas go on. Its steps need no compensation
    /// and no deadline, and its events need no consumer. `saga check` proves that nothing waits for it: no other participant
    /// consumes its events, unless it is optional too, and no saga ends with one.
    ///
    /// ```
    /// # use saga_core::{*, handler::Cx, testing::MemoryStore}; use uuid::Uuid;
    /// # #[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema, Event)]
    /// # #[event(name = "trip.booked", topic = "trip.events", saga = "trip_id")]
    /// # struct TripBooked { trip_id: Uuid }
    /// async fn send(cx: &mut Cx<'_, MemoryStore>, trip: TripBooked) -> StepResult<Never> {
    ///     cx.tx().put(&format!("mail/{}", trip.trip_id), &true);
    ///     Ok(Outcome::Quiet)
    /// }
    ///
    /// let mail = Participant::named("mail").step(Step::new("send", send)).optional();
    /// assert!(mail.declaration().optional);
    /// ```
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// Accepts findings of this rule about this participant, with the reason, which `saga check` shows. An acceptance
    /// without such a finding is itself a finding.
    #[must_use]
    pub fn accept(mut self, rule: Rule, why: &'static str) -> Self {
        self.accepted.push(Accepted { rule, why });
        self
    }

    /// The participant, if it can work: see [`Declaration::check`]. A service calls this when it starts.
    ///
    /// # Errors
    /// The rules that it breaks, with the place and a repair.
    pub fn build(self) -> Result<Self, Vec<Finding>> {
        let findings = self.declaration().check();
        if findings.is_empty() { Ok(self) } else { Err(findings) }
    }

    /// The participant's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The participant as data.
    pub fn declaration(&self) -> Declaration {
        Declaration {
            participant: self.name,
            steps: self.steps.iter().map(|s| s.spec.clone()).collect(),
            publishes: self.publishes.clone(),
            ends: self.ends.clone(),
            accepted: self.accepted.clone(),
            optional: self.optional,
        }
    }

    /// Whether it ever waits with a timer.
    pub(crate) fn has_joins(&self) -> bool {
        self.steps.iter().any(|step| step.spec.triggers.is_join())
    }

    pub(crate) fn has_deadlines(&self) -> bool {
        self.steps.iter().any(|step| TimerKind::ALL.into_iter().any(|kind| step.expires(kind).is_some()))
    }

    /// How a saga ends with this event; none when it goes on.
    pub(crate) fn ending(&self, event_type: &str) -> Option<Ending> {
        self.ends.iter().find(|end| end.event.name == event_type).map(|end| end.ending)
    }

    /// Whether sagas end at this participant, which therefore counts the unfinished ones.
    pub(crate) fn ends_sagas(&self) -> bool {
        !self.ends.is_empty()
    }

    /// The step that an event type triggers, and whether it is its action or its compensation.
    pub(crate) fn route(&self, event_type: &str) -> Option<(usize, Op)> {
        self.steps.iter().enumerate().find_map(|(i, step)| {
            let starts = |types: &[EventType]| types.iter().any(|t| t.name == event_type);
            if starts(&step.spec.triggers) {
                Some((i, Op::Action))
            } else if step.spec.compensation.as_ref().is_some_and(|u| starts(&u.triggers)) {
                Some((i, Op::Compensate))
            } else {
                None
            }
        })
    }
}

impl Declaration {
    /// The topics the participant consumes, sorted.
    pub fn consumed_topics(&self) -> Vec<String> {
        let topics: BTreeSet<_> = self.consumed().map(|t| t.topic.to_owned()).collect();
        topics.into_iter().collect()
    }

    /// The topics the participant publishes domain events to, sorted.
    pub fn published_topics(&self) -> Vec<String> {
        let topics: BTreeSet<_> = self.published().map(|t| t.topic.to_owned()).collect();
        topics.into_iter().collect()
    }

    /// Every event type that starts one of its steps or compensations.
    pub fn consumed(&self) -> impl Iterator<Item = EventType> {
        self.steps
            .iter()
            .flat_map(|s| s.triggers.iter().chain(s.compensation.iter().flat_map(|u| &u.triggers)))
            .copied()
    }

    /// Every event type that it knows; published types come first, since the publisher's declaration is the reference.
    pub fn events(&self) -> impl Iterator<Item = EventType> {
        self.published().chain(self.consumed()).chain(self.ends.iter().map(|end| end.event))
    }

    /// Every event type it publishes, in a step or outside.
    pub fn published(&self) -> impl Iterator<Item = EventType> {
        let of_step = |s: &'_ StepSpec| -> Vec<EventType> {
            let others = s.compensation.iter().map(|undo| undo.event);
            let others = others.chain(s.deadlines().map(|(_, deadline)| deadline.event));
            s.success.events().chain(s.refusal.events()).chain(others).collect()
        };
        self.steps.iter().flat_map(of_step).chain(self.publishes.iter().copied())
    }
}
