//! The acknowledgements of one call of `publish`.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::types::RDKafkaErrorCode as Code;
use saga_core::transport::PublishError;
use tokio::sync::oneshot;

use super::quotas::Reservation;

pub(super) type Acknowledgement = Result<(), PublishError>;

/// One per call, shared by its records: they wake the caller once, when the last of them is decided.
pub(super) struct Batch(Mutex<State>);

struct State {
    outcomes: Vec<Acknowledgement>,
    open: usize,
    done: Option<oneshot::Sender<Vec<Acknowledgement>>>,
}

/// One record's delivery in its batch; librdkafka carries it until the record's delivery report.
pub(super) struct Delivery {
    batch: Arc<Batch>,
    index: usize,
    /// Its part of the queue, given back when it is decided.
    pub(super) reservation: Option<Reservation>,
    /// Whether it carries the time of our clock.
    pub(super) has_time: bool,
}

impl Batch {
    pub(super) fn new(records: usize) -> (Arc<Self>, oneshot::Receiver<Vec<Acknowledgement>>) {
        let (done, outcomes) = oneshot::channel();
        let state = State { outcomes: vec![Ok(()); records], open: records, done: Some(done) };
        (Arc::new(Self(Mutex::new(state))), outcomes)
    }

    pub(super) fn delivery(self: &Arc<Self>, index: usize) -> Delivery {
        Delivery { batch: self.clone(), index, reservation: None, has_time: true }
    }
}

impl Delivery {
    pub(super) fn decide(mut self, outcome: Acknowledgement) {
        // First, so that whoever is woken finds the room.
        drop(self.reservation.take());
        let mut state = self.batch.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.outcomes[self.index] = outcome;
        state.open -= 1;
        if state.open == 0
            && let Some(done) = state.done.take()
        {
            // The caller may have lost interest.
            let _ = done.send(std::mem::take(&mut state.outcomes));
        }
    }
}

/// What a failed record's error means for its caller.
pub(super) fn publish_error(code: Code) -> PublishError {
    match code {
        Code::QueueFull => PublishError::Full,
        // Of the record itself: sending the same bytes again ends the same way.
        Code::MessageSizeTooLarge
        | Code::InvalidMessageSize
        | Code::InvalidMessage
        | Code::InvalidRecord
        | Code::InvalidTopic
        | Code::InvalidArgument
        | Code::BadMessage
        | Code::UnsupportedForMessageFormat => PublishError::Refused(code.to_string()),
        // Also missing topics and rights: someone may put them right.
        code => PublishError::Unacknowledged(code.to_string()),
    }
}
