//! The order flow: the four participants' declarations, taken from the services themselves. Nothing is connected to.

use std::{sync::Arc, time::Duration};

use order_flow_events::{
    InventoryRejected, InventoryReleased, InventoryReserved, OrderCancellationRequested, OrderCancelled,
    OrderConfirmed, OrderCreated, PaymentCharged, PaymentDeclined, PaymentRefunded, ShippingCancelled,
    ShippingRejected, ShippingScheduled,
};
use payment_service::SandboxGateway;
use saga_core::{
    Event, SagaId, Trigger, dead_letter,
    event::{DecodeError, EventType},
    graph::Choreography,
};
use saga_store::DatabaseUrl;

/// The default of `SAGA_DEADLINE`: what is drawn and documented, whatever the environment says.
const DEADLINE: Duration = Duration::from_secs(5 * 60);

/// The flow cannot be put together.
#[derive(Debug, thiserror::Error)]
#[error("the order flow cannot be put together: {0}")]
pub(crate) struct FlowError(String);

/// The whole flow.
pub(crate) fn order_flow() -> Result<Choreography, FlowError> {
    // A description of a database that is never opened: declaring the charge needs a gateway to name.
    let nowhere: DatabaseUrl = "sqlite::memory:".parse().map_err(failed)?;
    let gateway = SandboxGateway::beside(&nowhere).map_err(failed)?;
    Ok(Choreography::of(vec![
        order_service::participant(DEADLINE).declaration(),
        inventory_service::participant().declaration(),
        payment_service::participant(Arc::new(gateway)).declaration(),
        shipping_service::participant().declaration(),
    ]))
}

/// The topics of a flow.
pub(crate) struct FlowTopics {
    /// Sorted.
    pub(crate) events: Vec<String>,
    /// Dead letters, in the order of the participants.
    pub(crate) letters: Vec<String>,
}

impl FlowTopics {
    pub(crate) fn of(flow: &Choreography) -> Self {
        let mut events: Vec<String> = flow.events().map(|(_, node)| node.event.topic.to_owned()).collect();
        events.sort_unstable();
        events.dedup();
        let letters = flow.declarations().iter().map(|d| dead_letter::topic(d.participant)).collect();
        Self { events, letters }
    }

    /// All of them.
    pub(crate) fn all(self) -> Vec<String> {
        [self.events, self.letters].concat()
    }
}

fn failed(cause: impl std::fmt::Display) -> FlowError {
    FlowError(cause.to_string())
}

/// An event with the checks that only its type can make.
pub(crate) struct TypedEvent {
    pub(crate) event_type: EventType,
    /// Decodes and validates the data as a consumer does; the saga it belongs to.
    pub(crate) read: fn(&[u8]) -> Result<SagaId, DecodeError>,
}

impl TypedEvent {
    fn of<E: Event>() -> Self {
        let read = |data: &[u8]| <E as Trigger>::decode(E::NAME, E::VERSION, data).map(|event| Event::saga_id(&event));
        Self { event_type: EventType::of::<E>(), read }
    }
}

/// Every event of the flow.
pub(crate) fn typed_events() -> Vec<TypedEvent> {
    vec![
        TypedEvent::of::<OrderCreated>(),
        TypedEvent::of::<OrderCancellationRequested>(),
        TypedEvent::of::<OrderConfirmed>(),
        TypedEvent::of::<OrderCancelled>(),
        TypedEvent::of::<InventoryReserved>(),
        TypedEvent::of::<InventoryRejected>(),
        TypedEvent::of::<InventoryReleased>(),
        TypedEvent::of::<PaymentCharged>(),
        TypedEvent::of::<PaymentDeclined>(),
        TypedEvent::of::<PaymentRefunded>(),
        TypedEvent::of::<ShippingScheduled>(),
        TypedEvent::of::<ShippingRejected>(),
        TypedEvent::of::<ShippingCancelled>(),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Args;
    use saga_core::graph::EventKey;

    use super::*;

    /// Fails when a participant does not fit the others; the message says what to repair.
    #[test]
    fn the_four_participants_fit_together() {
        let findings: Vec<_> = order_flow().unwrap().check().iter().map(ToString::to_string).collect();
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }

    #[test]
    fn every_event_of_the_flow_can_be_read() {
        let typed: BTreeSet<_> = typed_events().iter().map(|t| EventKey::from(t.event_type)).collect();
        let declared: BTreeSet<_> = order_flow().unwrap().events().map(|(key, _)| key).collect();
        assert_eq!(typed, declared);
    }

    #[test]
    fn the_drawn_deadline_is_the_order_services_default() {
        let command = order_service::OrderArgs::augment_args(clap::Command::new("order"));
        let deadline = command.get_arguments().find(|arg| arg.get_id() == "saga_deadline").unwrap();
        assert_eq!((deadline.get_default_values(), DEADLINE.as_secs()), (["5m".into()].as_slice(), 300));
    }
}
