//! Lists the types of frames, and of the objects in them (`protocols.md §3.3`). The types of messages and
//! destinations are in the tables beside their names.

pub(crate) const WIRE_FORMAT_INFO: u8 = 1;
pub(crate) const BROKER_INFO: u8 = 2;
pub(crate) const CONNECTION_INFO: u8 = 3;
pub(crate) const SESSION_INFO: u8 = 4;
pub(crate) const CONSUMER_INFO: u8 = 5;
pub(crate) const TRANSACTION_INFO: u8 = 7;
pub(crate) const KEEP_ALIVE_INFO: u8 = 10;
pub(crate) const SHUTDOWN_INFO: u8 = 11;
pub(crate) const REMOVE_INFO: u8 = 12;
pub(crate) const CONNECTION_ERROR: u8 = 16;
pub(crate) const CONSUMER_CONTROL: u8 = 17;
pub(crate) const MESSAGE_DISPATCH: u8 = 21;
pub(crate) const MESSAGE_ACK: u8 = 22;
pub(crate) const RESPONSE: u8 = 30;
pub(crate) const EXCEPTION_RESPONSE: u8 = 31;
pub(crate) const DATA_RESPONSE: u8 = 32;
pub(crate) const DATA_ARRAY_RESPONSE: u8 = 33;
pub(crate) const INTEGER_RESPONSE: u8 = 34;
pub(crate) const MESSAGE_ID: u8 = 110;
pub(crate) const LOCAL_TRANSACTION: u8 = 111;
pub(crate) const XA_TRANSACTION: u8 = 112;
pub(crate) const CONNECTION: u8 = 120;
pub(crate) const SESSION: u8 = 121;
pub(crate) const CONSUMER: u8 = 122;
pub(crate) const PRODUCER: u8 = 123;
pub(crate) const BROKER: u8 = 124;

/// The types of frames that the session acts on. A frame of another type may be malformed.
pub(crate) const MEANT_FOR_US: [u8; 7] = [
    WIRE_FORMAT_INFO,
    SHUTDOWN_INFO,
    CONNECTION_ERROR,
    CONSUMER_CONTROL,
    MESSAGE_DISPATCH,
    RESPONSE,
    EXCEPTION_RESPONSE,
];

/// Whether a frame of this type may come over a connection.
pub(super) fn is_command(kind: u8) -> bool {
    matches!(kind, 1..=34 | 90..=92)
}
