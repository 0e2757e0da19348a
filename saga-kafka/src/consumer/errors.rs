//! The client's errors, classified by their codes; the texts are for people.

use rdkafka::types::RDKafkaErrorCode as Code;

/// What an error concerns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ErrorKind {
    /// A connection. It explains what the statistics show.
    Connection,
    /// One of the topics that are read. The broker is asked which one; the text is never parsed.
    Topic,
    /// The group refuses this member.
    Group,
    /// Records that this program cannot read. The client fetches them again and again.
    Unreadable,
    /// A transient error that the client handles by itself.
    Transient,
    /// Any other error.
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

/// Whether the code stands for records that the client cannot read and never gets past.
pub(crate) fn is_unreadable(code: Code) -> bool {
    kind_of(code) == ErrorKind::Unreadable
}
