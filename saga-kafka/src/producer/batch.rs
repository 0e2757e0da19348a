//! The acknowledgements of one call of `publish`.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::types::RDKafkaErrorCode as Code;
use saga_core::transport::PublishError;
use tokio::sync::oneshot;

use super::quotas::Reservation;

pub(super) type Acknowledgement = Result<(), PublishError>;

/// One call's records, which share it. It wakes the caller once, when the last of them is acknowledged or refused.
pub(super) struct Batch(Mutex<State>);

struct State {
    outcomes: Vec<Acknowledgement>,
    open: usize,
    done: Option<oneshot::Sender<Vec<Acknowledgement>>>,
}

/// One record of a batch. librdkafka carries it until the record's delivery report.
pub(super) struct Delivery {
    batch: Arc<Batch>,
    index: usize,
    /// Its part of the queue, released with its outcome.
    pub(super) reservation: Option<Reservation>,
    /// Whether the record carries the time of our clock.
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
        // First, so that the caller finds room when it wakes.
        drop(self.reservation.take());
        let mut state = self.batch.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.outcomes[self.index] = outcome;
        state.open -= 1;
        if state.open == 0
            && let Some(done) = state.done.take()
        {
            // The caller may be gone.
            let _ = done.send(std::mem::take(&mut state.outcomes));
        }
    }
}

/// What a record's error means for the caller.
pub(super) fn publish_error(code: Code) -> PublishError {
    match code {
        Code::QueueFull => PublishError::Full,
        // The record itself is at fault: the same bytes fail again.
        Code::MessageSizeTooLarge
        | Code::InvalidMessageSize
        | Code::InvalidMessage
        | Code::InvalidRecord
        | Code::InvalidTopic
        | Code::InvalidArgument
        | Code::BadMessage
        | Code::UnsupportedForMessageFormat => PublishError::Refused(code.to_string()),
        // Includes missing topics and rights, which can be fixed.
        code => PublishError::Unacknowledged(code.to_string()),
    }
}
