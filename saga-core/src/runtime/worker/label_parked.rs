//! What an earlier version parked, labelled with the steps that it concerns.

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

/// Says of what an earlier version has parked which step it concerns, so that its compensation may overtake it.
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
