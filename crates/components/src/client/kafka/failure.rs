//! What a failure of Kafka means to the caller.

use layotto_core::{Error, ErrorKind};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// The error that a caller gets for `error` of `what`.
pub(crate) fn of(what: &str, error: KafkaError) -> Error {
    let kind = error.rdkafka_error_code().map_or(ErrorKind::Internal, kind);
    Error::new(kind, format!("{what}: {}", reason(&error))).with_source(error)
}

fn reason(error: &KafkaError) -> String {
    // Says the reason without the Rust name of the call that failed.
    error
        .rdkafka_error_code()
        .map_or_else(|| error.to_string(), |code| code.to_string())
}

fn kind(code: RDKafkaErrorCode) -> ErrorKind {
    use RDKafkaErrorCode as Code;
    match code {
        Code::QueueFull => ErrorKind::ResourceExhausted,
        Code::MessageSizeTooLarge | Code::InvalidTopic | Code::InvalidMessage | Code::InvalidArgument => {
            ErrorKind::InvalidArgument
        }
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => ErrorKind::NotFound,
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::PolicyViolation => ErrorKind::PermissionDenied,
        Code::Authentication | Code::SaslAuthenticationFailed => ErrorKind::Unauthenticated,
        Code::MessageTimedOut | Code::OperationTimedOut | Code::RequestTimedOut => ErrorKind::Timeout,
        Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::Resolve
        | Code::PurgeQueue
        | Code::PurgeInflight
        | Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::NotEnoughReplicas
        | Code::NotEnoughReplicasAfterAppend
        | Code::NetworkException
        | Code::BrokerNotAvailable
        | Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable
        | Code::NotCoordinator
        | Code::WaitingForCoordinator
        | Code::RebalanceInProgress => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    }
}
