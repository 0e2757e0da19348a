//! What an earlier version parked, labelled with the steps that it concerns.

use std::sync::Arc;

use super::super::{
    Shared,
    work::{Origin, Reading, read},
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
pub(super) async fn label_parked<S: Store, P: Producer, C: Clock>(shared: &Shared<S, P, C>) -> Result<(), StoreError> {
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
    match read(participant, Arc::new(record), Origin::Parked { seq }) {
        Reading::Event(work) => ParkedLabel { seq, cause: work.cause_id, step: work.name, op: work.op },
        Reading::PassOver | Reading::Poison(_) => {
            ParkedLabel { seq, cause: identity::cause("", &place), step: "", op: Op::Action }
        }
    }
}
