//! Synchronous commits with a time limit.

use std::{
    ptr, thread,
    time::{Duration, Instant},
};

use rdkafka::{
    TopicPartitionList, bindings as ffi,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError as NativeError,
    types::{RDKafkaErrorCode as Code, RDKafkaRespErr},
};

/// A healthy coordinator answers within milliseconds. After this time the commit is abandoned: the events come again,
/// which is harmless.
const PATIENCE: Duration = Duration::from_secs(3);

/// Pause between attempts while a rebalance keeps the group from taking commits.
const PAUSE: Duration = Duration::from_millis(100);

/// Commits the stored offsets and waits for the broker's answer.
pub(super) fn stored(client: &BaseConsumer<impl ConsumerContext>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let code = Code::from(commit(client, None, deadline.saturating_duration_since(Instant::now())));
        match code {
            Code::NoError | Code::NoOffset => return,
            Code::RebalanceInProgress if Instant::now() + PAUSE < deadline => thread::sleep(PAUSE),
            code => return tracing::warn!("Kafka: offsets were not committed, their events come again: {code}"),
        }
    }
}

/// Commits these offsets, even those below what was committed before.
pub(super) fn explicit(
    client: &BaseConsumer<impl ConsumerContext>,
    offsets: &TopicPartitionList,
    patience: Duration,
) -> Result<(), Code> {
    match Code::from(commit(client, Some(offsets), patience)) {
        Code::NoError => Ok(()),
        code => Err(code),
    }
}

#[allow(unsafe_code, reason = "rust-rdkafka's synchronous commit waits as long as the broker is away")]
fn commit(
    client: &BaseConsumer<impl ConsumerContext>,
    offsets: Option<&TopicPartitionList>,
    patience: Duration,
) -> RDKafkaRespErr {
    let native = client.client().native_ptr();
    // SAFETY: the client is alive while it is borrowed; the queue is destroyed below.
    let queue = unsafe { ffi::rd_kafka_queue_new(native) };
    let offsets = offsets.map_or(ptr::null(), |offsets| offsets.ptr().cast_const());
    // SAFETY: all are alive, and the offsets are copied; without offsets the stored ones are meant, without a callback the queue gets the result.
    let queued = unsafe { ffi::rd_kafka_commit_queue(native, offsets, queue, None, ptr::null_mut()) };
    let mut result = queued;
    if queued == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        // SAFETY: the queue is alive.
        let event = unsafe { ffi::rd_kafka_queue_poll(queue, i32::try_from(patience.as_millis()).unwrap_or(i32::MAX)) };
        result = RDKafkaRespErr::RD_KAFKA_RESP_ERR__TIMED_OUT;
        if !event.is_null() {
            // SAFETY: the event was just returned, and is read once before it is destroyed.
            unsafe {
                result = ffi::rd_kafka_event_error(event);
                ffi::rd_kafka_event_destroy(event);
            }
        }
    }
    // SAFETY: ours, and not used after this; a late result is dropped with it.
    unsafe { ffi::rd_kafka_queue_destroy(queue) };
    result
}

/// Whether the error says that no offset was stored since the last commit.
pub(super) fn nothing_to_do(error: &NativeError) -> bool {
    error.rdkafka_error_code() == Some(Code::NoOffset)
}
