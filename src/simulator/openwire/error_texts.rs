//! Writes the error texts with which ActiveMQ refuses commands.

use crate::source::openwire::wire::control::Thrown;
use crate::source::openwire::wire::ids::{ConsumerId, Destination, DestinationKind};

use super::super::exception::JavaException;

const ILLEGAL_STATE: &str = "java.lang.IllegalStateException";

pub(super) fn thrown(JavaException { class, message }: JavaException) -> Thrown {
    Thrown { class: class.to_owned(), message }
}

pub(super) fn unregistered(what: &str, name: &str) -> JavaException {
    JavaException::new(ILLEGAL_STATE, format!("{what} that had not been registered: {name}"))
}

/// Returns the name of a destination in ActiveMQ's messages.
pub(super) fn name(destination: &Destination) -> String {
    let scheme = match destination.kind {
        DestinationKind::Queue => "queue",
        DestinationKind::Topic => "topic",
        DestinationKind::TempQueue => "temp-queue",
        DestinationKind::TempTopic => "temp-topic",
    };
    format!("{scheme}://{}", String::from_utf8_lossy(&destination.name))
}

pub(super) fn text_of(ConsumerId { connection, session, value }: &ConsumerId) -> String {
    format!("{}:{session}:{value}", String::from_utf8_lossy(connection))
}
