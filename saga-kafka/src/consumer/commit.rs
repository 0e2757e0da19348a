//! Committing the stored offsets and waiting for it, but not for ever.

use std::{ptr, time::Duration};

use rdkafka::{
    bindings as ffi,
    consumer::Consumer,
    error::KafkaError as NativeError,
    types::{RDKafkaErrorCode as Code, RDKafkaRespErr},
};

use super::context::Client;

/// The coordinator answers within milliseconds, or is in trouble; then events come again, which is harmless.
const PATIENCE: Duration = Duration::from_secs(3);

/// Commits what is stored. rust-rdkafka's synchronous commit waits as long as the broker is away.
#[allow(unsafe_code, reason = "rust-rdkafka has no commit with a time limit")]
pub(super) fn stored(client: &Client) {
    let native = client.client().native_ptr();
    // SAFETY: the client is alive while it is borrowed; the queue is destroyed below.
    let queue = unsafe { ffi::rd_kafka_queue_new(native) };
    // SAFETY: both are alive; without offsets the stored ones are meant, without a callback the queue gets the result.
    let queued = unsafe { ffi::rd_kafka_commit_queue(native, ptr::null(), queue, None, ptr::null_mut()) };
    let result = if queued == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        // SAFETY: the queue is alive.
        let event = unsafe { ffi::rd_kafka_queue_poll(queue, PATIENCE.as_millis() as i32) };
        if event.is_null() {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__TIMED_OUT
        } else {
            // SAFETY: the event was just returned, and is read once before it is destroyed.
            unsafe {
                let error = ffi::rd_kafka_event_error(event);
                ffi::rd_kafka_event_destroy(event);
                error
            }
        }
    } else {
        queued
    };
    // SAFETY: ours, and not used after this; a late result is dropped with it.
    unsafe { ffi::rd_kafka_queue_destroy(queue) };
    if result != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        let error = NativeError::ConsumerCommit(result.into());
        if !nothing_to_do(&error) {
            tracing::warn!("Kafka: offsets were not committed, their events come again: {error}");
        }
    }
}

/// No offset was stored since the last commit.
pub(super) fn nothing_to_do(error: &NativeError) -> bool {
    error.rdkafka_error_code() == Some(Code::NoOffset)
}
