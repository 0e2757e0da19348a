//! The transport of choreographed sagas on Apache Kafka: consuming, publishing, offsets, topics, an embedded broker.
//!
//! Delivery is at least once: a crash repeats what was not committed. The runtime's barrier and outbox make that
//! harmless. Kafka's transactions are not used.
//!
//! librdkafka is compiled with a C compiler and make. Its `configure` also asks for a C++ compiler (`cxx (WITH_CXX) C++ compiler
//! (c++)`): install `g++`, or put `CXX = "cc"` and `GNUMAKEFLAGS = "LIBSUBDIRS=src"` under `[env]` in your workspace's
//! `.cargo/config.toml`, which leaves out its C++ wrapper.

mod addresses;
mod config;
mod consumer;
mod embedded;
mod error;
mod log;
mod partitioner;
mod producer;
mod properties;
mod publisher;
mod reader;
mod record;
mod topics;

pub use addresses::bootstrap_servers;
pub use config::{KafkaConfig, PROPERTY_PREFIX, property_name};
pub use consumer::{ConsumerMetrics, KafkaConsumer, Position};
pub use embedded::EmbeddedBroker;
pub use error::KafkaError;
pub use partitioner::partition_of;
pub use producer::KafkaProducer;
pub use publisher::{Publisher, PublisherError};
pub use reader::{ReadError, Reader, Stored};
pub use topics::{TopicSpec, Topics, TopicsError, delete_topics, ensure_topics};
