//! How missing topics are created.

/// `SAGA_TOPIC_PARTITIONS` and `SAGA_TOPIC_REPLICATION_FACTOR`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TopicConfig {
    /// Partitions of a new topic; an existing topic keeps its own.
    pub partitions: u16,
    /// Replicas of a new topic; the broker's default when none is given.
    pub replication_factor: Option<u16>,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self { partitions: 6, replication_factor: None }
    }
}
