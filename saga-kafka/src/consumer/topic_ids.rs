//! Topic ids: which log an offset belongs to, and what the group committed for which.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{CStr, CString, c_char},
    ptr, slice,
    time::Duration,
};

use rdkafka::{
    Offset, TopicPartitionList, bindings as ffi,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    types::{RDKafkaErrorCode as Code, RDKafkaRespErr},
};
use saga_core::record::TopicPartition;

/// Prefix of the topic's id in the metadata of our commits.
const PREFIX: &str = "topic-id=";
/// The id that brokers without topic ids return.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// The metadata of a commit: a later reader can tell whether the topic of this name is still the same.
pub(super) fn commit_metadata(topic_id: Option<&str>) -> String {
    topic_id.map(|id| format!("{PREFIX}{id}")).unwrap_or_default()
}

/// What the group committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommittedOffset {
    pub(super) next: i64,
    /// The id of the topic it was committed for; none when the committer did not write it.
    pub(super) topic_id: Option<String>,
}

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// At the group's committed offset, or at the beginning without one.
    Continue,
    /// At this offset, because the committed one belongs to another log.
    Reset(i64),
}

/// `topic_id` is the topic's current id, none where brokers have no ids. A committed offset beyond the log's end is
/// left to the broker, which resets it to the beginning; then the offsets go back.
pub(super) fn start(committed: Option<&CommittedOffset>, topic_id: Option<&str>) -> Start {
    match (committed.and_then(|committed| committed.topic_id.as_deref()), topic_id) {
        (Some(then), Some(now)) if then != now => Start::Reset(0),
        _ => Start::Continue,
    }
}

/// The group's committed offsets; partitions without one are missing.
pub(super) fn committed(
    client: &BaseConsumer<impl ConsumerContext>,
    partitions: &[TopicPartition],
    patience: Duration,
) -> Result<BTreeMap<TopicPartition, CommittedOffset>, String> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(&partition.topic, partition.partition);
    }
    let list = client.committed_offsets(list, patience).map_err(|error| error.to_string())?;
    let mut found = BTreeMap::new();
    for (partition, element) in partitions.iter().zip(list.elements()) {
        element.error().map_err(|error| format!("{partition}: {error}"))?;
        if let Offset::Offset(next) = element.offset() {
            found.insert(partition.clone(), CommittedOffset { next, topic_id: topic_id_of(&list, partition) });
        }
    }
    Ok(found)
}

/// Reads the metadata of a commit, which other programs may have written in any bytes.
#[allow(unsafe_code, reason = "rust-rdkafka's reader panics at metadata that is not UTF-8")]
fn topic_id_of(list: &TopicPartitionList, partition: &TopicPartition) -> Option<String> {
    let topic = CString::new(partition.topic.as_bytes()).ok()?;
    // SAFETY: the list is alive while it is borrowed; what is found belongs to it.
    let element = unsafe { ffi::rd_kafka_topic_partition_list_find(list.ptr(), topic.as_ptr(), partition.partition) };
    // SAFETY: null, or an element of the list.
    let element = unsafe { element.as_ref() }?;
    if element.metadata.is_null() {
        return None;
    }
    // SAFETY: librdkafka says how many bytes there are; they live as long as the list.
    let bytes = unsafe { slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size) };
    let id = std::str::from_utf8(bytes).ok()?.strip_prefix(PREFIX)?;
    Some(id.to_owned())
}

/// The ids of these topics; topics that cannot be described now are missing.
pub(super) fn topic_ids(
    client: &BaseConsumer<impl ConsumerContext>,
    topics: &BTreeSet<&str>,
    patience: Duration,
) -> Result<BTreeMap<String, Option<String>>, String> {
    // Asks any broker. The default is the controller, which can be down while all else works, and which the embedded
    // broker does not have. The connection to a bootstrap address has no id yet.
    let first = topics.first().copied();
    let metadata = client.fetch_metadata(first, patience).map_err(|error| error.to_string())?;
    let answered = Some(metadata.orig_broker_id()).filter(|id| *id >= 0);
    let known = || metadata.brokers().first().map(|broker| broker.id());
    let broker = answered.or_else(known).ok_or("no broker is known")?;
    let event = describe(client, topics, broker, patience).ok_or("no answer about the topics' ids")?;
    let described = event.descriptions();
    event.error().map_or(Ok(described), |code| Err(code.to_string()))
}

/// librdkafka's answer, destroyed with this.
struct Described(*mut ffi::rd_kafka_event_t);

#[allow(unsafe_code, reason = "rust-rdkafka cannot describe topics, and nothing else tells their ids")]
fn describe(
    client: &BaseConsumer<impl ConsumerContext>,
    topics: &BTreeSet<&str>,
    broker: i32,
    patience: Duration,
) -> Option<Described> {
    let native = client.client().native_ptr();
    let names: Vec<CString> = topics.iter().filter_map(|topic| CString::new(*topic).ok()).collect();
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let patience = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the client is alive while it is borrowed, and the names until they were copied. Queue, options and
    // collection are made, used and destroyed here; what comes to the queue later is dropped with it.
    unsafe {
        let queue = ffi::rd_kafka_queue_new(native);
        let options =
            ffi::rd_kafka_AdminOptions_new(native, ffi::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        ffi::rd_kafka_AdminOptions_set_request_timeout(options, patience, ptr::null_mut(), 0);
        ffi::rd_kafka_AdminOptions_set_broker(options, broker, ptr::null_mut(), 0);
        let collection = ffi::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        ffi::rd_kafka_DescribeTopics(native, collection, options, queue);
        let event = ffi::rd_kafka_queue_poll(queue, patience);
        ffi::rd_kafka_TopicCollection_destroy(collection);
        ffi::rd_kafka_AdminOptions_destroy(options);
        ffi::rd_kafka_queue_destroy(queue);
        (!event.is_null()).then_some(Described(event))
    }
}

#[allow(unsafe_code, reason = "see `describe`")]
impl Described {
    fn error(&self) -> Option<Code> {
        // SAFETY: the event is alive.
        let error = unsafe { ffi::rd_kafka_event_error(self.0) };
        (error != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| error.into())
    }

    fn descriptions(&self) -> BTreeMap<String, Option<String>> {
        let mut count = 0;
        // SAFETY: the event is alive, and everything that is looked at belongs to it; null is looked for.
        unsafe {
            let result = ffi::rd_kafka_event_DescribeTopics_result(self.0);
            if result.is_null() {
                return BTreeMap::new();
            }
            let topics = ffi::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
            if topics.is_null() {
                return BTreeMap::new();
            }
            let known = slice::from_raw_parts(topics, count).iter().filter(|topic| {
                let error = ffi::rd_kafka_TopicDescription_error(**topic);
                error.is_null() || ffi::rd_kafka_error_code(error) == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
            });
            let text = |text: *const c_char| CStr::from_ptr(text).to_string_lossy().into_owned();
            let described = known.map(|topic| {
                let id = ffi::rd_kafka_TopicDescription_topic_id(*topic);
                let id = (!id.is_null()).then(|| text(ffi::rd_kafka_Uuid_base64str(id)));
                (text(ffi::rd_kafka_TopicDescription_name(*topic)), id.filter(|id| id != NO_ID))
            });
            described.collect()
        }
    }
}

impl Drop for Described {
    #[allow(unsafe_code, reason = "made by librdkafka, freed by librdkafka")]
    fn drop(&mut self) {
        // SAFETY: ours alone.
        unsafe { ffi::rd_kafka_event_destroy(self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(topic_id: Option<&str>) -> CommittedOffset {
        CommittedOffset { next: 93, topic_id: topic_id.map(ToOwned::to_owned) }
    }

    #[test]
    fn an_offset_counts_for_the_topic_it_was_committed_for() {
        assert_eq!(start(Some(&committed(Some("a"))), Some("a")), Start::Continue);
        assert_eq!(start(Some(&committed(Some("a"))), Some("b")), Start::Reset(0));
        assert_eq!(start(Some(&committed(None)), Some("b")), Start::Continue, "committed by an operator's tool");
        assert_eq!(start(Some(&committed(Some("a"))), None), Start::Continue, "a broker without ids");
        assert_eq!(start(None, Some("b")), Start::Continue);
    }

    #[test]
    fn the_id_goes_along_with_the_commit() {
        assert_eq!(commit_metadata(Some("a")), "topic-id=a");
        assert_eq!(commit_metadata(None), "");
    }
}
