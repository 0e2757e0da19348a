//! The reader's callbacks: the state of its connection.

use std::sync::{Mutex, PoisonError};

use rdkafka::{
    ClientContext, config::RDKafkaLogLevel, consumer::ConsumerContext, error::KafkaError as NativeError,
    types::RDKafkaErrorCode as Code,
};

/// The last connection error, until the connection is known to work.
#[derive(Default)]
pub(super) struct Context(Mutex<Option<String>>);

impl Context {
    pub(super) fn trouble(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_trouble(&self, trouble: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        crate::log::line(level, facility, message);
    }

    fn error(&self, error: NativeError, reason: &str) {
        let is_connection = matches!(
            error.rdkafka_error_code(),
            Some(
                Code::AllBrokersDown | Code::BrokerTransportFailure | Code::Resolve | Code::Authentication | Code::SSL
            )
        );
        tracing::debug!("Kafka reader: {error}: {reason}");
        if is_connection {
            self.set_trouble(Some(reason.to_owned()));
        }
    }
}

impl ConsumerContext for Context {}
