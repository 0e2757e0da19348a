//! What the client's errors are about, by their codes; their texts are for people.

use rdkafka::types::RDKafkaErrorCode as Code;

/// What an error is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum About {
    /// A connection: it explains what the statistics say.
    Connection,
    /// A topic, one of those that are read; which one is asked, never read from a text.
    Topic,
    /// The group, which does not take us.
    Group,
    /// Records that are there and that this program cannot read. The client asks for them again and again.
    Unreadable,
    /// Part of a change that the client carries out by itself.
    Nothing,
    /// Something that nobody thought of.
    Unknown,
}

pub(super) fn about(code: Code) -> About {
    match code {
        Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::Resolve
        | Code::OperationTimedOut
        | Code::RequestTimedOut
        | Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::SSL => About::Connection,
        Code::UnknownTopicOrPartition
        | Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicId
        | Code::TopicAuthorizationFailed => About::Topic,
        Code::GroupAuthorizationFailed | Code::InconsistentGroupProtocol => About::Group,
        Code::BadMessage
        | Code::BadCompression
        | Code::NotImplemented
        | Code::UnsupportedFeature
        | Code::InvalidMessage
        | Code::InvalidMessageSize
        | Code::MessageSizeTooLarge
        | Code::UnsupportedCompressionType => About::Unreadable,
        Code::PartitionEOF
        | Code::NotLeaderForPartition
        | Code::LeaderNotAvailable
        | Code::FencedLeaderEpoch
        | Code::UnknownLeaderEpoch
        | Code::RebalanceInProgress => About::Nothing,
        _ => About::Unknown,
    }
}

/// Whether the client has met records that it cannot read, and will never get past.
pub(crate) fn is_unreadable(code: Code) -> bool {
    about(code) == About::Unreadable
}
