//! What the client's errors are about, by their codes; their texts are for people.

use rdkafka::types::RDKafkaErrorCode as Code;

/// What an error is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ErrorKind {
    /// A connection: it explains what the statistics say.
    Connection,
    /// A topic, one of those that are read; which one is asked, never read from a text.
    Topic,
    /// The group, which does not take us.
    Group,
    /// Records that are there and that this program cannot read. The client asks for them again and again.
    Unreadable,
    /// Part of a change that the client carries out by itself.
    Transient,
    /// Something that nobody thought of.
    Unknown,
}

pub(super) fn kind_of(code: Code) -> ErrorKind {
    match code {
        Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::Resolve
        | Code::OperationTimedOut
        | Code::RequestTimedOut
        | Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::SSL => ErrorKind::Connection,
        Code::UnknownTopicOrPartition
        | Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicId
        | Code::TopicAuthorizationFailed => ErrorKind::Topic,
        Code::GroupAuthorizationFailed | Code::InconsistentGroupProtocol => ErrorKind::Group,
        Code::BadMessage
        | Code::BadCompression
        | Code::NotImplemented
        | Code::UnsupportedFeature
        | Code::InvalidMessage
        | Code::InvalidMessageSize
        | Code::MessageSizeTooLarge
        | Code::UnsupportedCompressionType => ErrorKind::Unreadable,
        Code::PartitionEOF
        | Code::NotLeaderForPartition
        | Code::LeaderNotAvailable
        | Code::FencedLeaderEpoch
        | Code::UnknownLeaderEpoch
        | Code::RebalanceInProgress => ErrorKind::Transient,
        _ => ErrorKind::Unknown,
    }
}

/// Whether the client has met records that it cannot read, and will never get past.
pub(crate) fn is_unreadable(code: Code) -> bool {
    kind_of(code) == ErrorKind::Unreadable
}
