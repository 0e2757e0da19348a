//! Labels the events that an earlier version parked with their steps.

use std::sync::Arc;

use crate::runtime::{
    Shared,
    consume::read::{Reading, read},
    in_flight::TakenFrom,
};
use crate::{
    barrier::Op,
    clock::Clock,
    identity,
    participant::Participant,
    store::{ParkedEvent, ParkedLabel, Store, StoreError},
    transport::Producer,
};

/// Labels parked events of an earlier version with their steps, so that a compensation can overtake its action.
pub(crate) async fn label_parked<S: Store, P: Producer, C: Clock>(shared: &Shared<S, P, C>) -> Result<(), StoreError> {
    loop {
        let events = shared.store.unlabelled_parked(shared.options.max_batch).await?;
        if events.is_empty() {
            return Ok(());
        }
        let labels: Vec<ParkedLabel> = events.into_iter().map(|event| label(&shared.participant, event)).collect();
        tracing::info!(events = labels.len(), "events that an earlier version parked are labelled with their steps");
        shared.store.label_parked(&labels).await?;
    }
}

fn label<S: Store>(participant: &Participant<S>, event: ParkedEvent) -> ParkedLabel {
    let ParkedEvent { seq, record, .. } = event;
    let place = format!("{}/{}/{}", record.topic, record.partition, record.offset);
    match read(participant, Arc::new(record), TakenFrom::Parked { seq }) {
        Reading::Event(event) => ParkedLabel { seq, cause: event.cause_id, step: event.name, op: event.op },
        Reading::PassOver | Reading::Poison(_) => {
            ParkedLabel { seq, cause: identity::cause("", &place), step: "", op: Op::Action }
        }
    }
}
