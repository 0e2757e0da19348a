//! How topics are created that do not exist yet.

/// `SAGA_TOPIC_PARTITIONS` and `SAGA_TOPIC_REPLICATION_FACTOR`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TopicConfig {
    /// Partitions of a new topic; those of an existing one are never changed.
    pub partitions: u16,
    /// Replicas of a new topic; the broker's default when none is given.
    pub replication_factor: Option<u16>,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self { partitions: 6, replication_factor: None }
    }
}
