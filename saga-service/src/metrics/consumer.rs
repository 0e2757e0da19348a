//! Metrics of the Kafka consumer, under the names that Kafka dashboards use.

use std::sync::{Arc, OnceLock};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use saga_core::record::TopicPartition;
use saga_kafka::{ConsumerMetrics, Position};

/// The collector; the consumer starts after the registry is made.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConsumerCollector(Arc<OnceLock<ConsumerMetrics>>);

impl ConsumerCollector {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let collector = Self::default();
        registry.register_collector(Box::new(collector.clone()));
        collector
    }

    pub(crate) fn attach(&self, consumer: ConsumerMetrics) {
        // A service has one consumer.
        let _ = self.0.set(consumer);
    }
}

impl Collector for ConsumerCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(consumer) = self.0.get() else { return Ok(()) };
        let positions = consumer.positions();
        let mut gauge = |name, help, figure: fn(&Position) -> i64| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (partition, position) in &positions {
                let labels = [("topic", partition.topic.to_string()), ("partition", partition.partition.to_string())];
                ConstGauge::new(figure(position)).encode(family.encode_family(&labels)?)?;
            }
            Ok::<(), std::fmt::Error>(())
        };
        gauge("saga_consumer_lag", "Records of an assigned partition that are not done yet", |position| position.lag)?;
        let help = "Offset up to which the records of an assigned partition are done";
        gauge("saga_consumer_done_offset", help, |position| position.done)?;
        let mut counter = |name, help, counts: Vec<(Vec<(&str, String)>, u64)>| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (labels, count) in counts {
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
            Ok::<(), std::fmt::Error>(())
        };
        let by_partition = |counts: Vec<(TopicPartition, u64)>| {
            let labels =
                |p: &TopicPartition| vec![("topic", p.topic.to_string()), ("partition", p.partition.to_string())];
            counts.iter().map(|(partition, count)| (labels(partition), *count)).collect()
        };
        let help = "Records that were deleted from a partition before they were read";
        counter("saga_records_lost", help, by_partition(consumer.records_lost()))?;
        let help = "How often the log of a partition was replaced by another and read from its beginning";
        counter("saga_partition_resets", help, by_partition(consumer.resets()))?;
        let errors = consumer.errors().into_iter().map(|(kind, count)| (vec![("kind", kind.to_owned())], count));
        counter("saga_consumer_errors", "Errors that the consumer reported", errors.collect())?;
        let fenced = ConstCounter::new(consumer.fenced());
        let help = "How often another process took this one's place in the group";
        let metric = encoder.encode_descriptor("saga_consumer_fenced", help, None, fenced.metric_type())?;
        fenced.encode(metric)
    }
}
