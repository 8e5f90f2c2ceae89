//! Reads and writes one frame and the command in it (`protocols.md §3.5`).

use super::ack::MessageAck;
use super::control::{ConsumerControl, Thrown};
use super::framing::OpenWireFrame;
use super::ids::read_connection;
use super::info::{BrokerInfo, ConnectionInfo, ConsumerInfo, RemoveInfo, SessionInfo};
use super::message::{Dispatch, MessageKind, WireMessage};
use super::primitives::{FieldError, FieldReader, FieldWriter};
use super::types;
use super::wire_format::WireFormatInfo;

/// The command that a frame carries.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    WireFormatInfo(WireFormatInfo),
    /// Only written: it is read as [`Command::Other`].
    BrokerInfo(BrokerInfo),
    ConnectionInfo(ConnectionInfo),
    SessionInfo(SessionInfo),
    ConsumerInfo(ConsumerInfo),
    KeepAliveInfo,
    ShutdownInfo,
    RemoveInfo(RemoveInfo),
    ConnectionError {
        exception: Thrown,
    },
    ConsumerControl(ConsumerControl),
    MessageDispatch(Dispatch),
    MessageAck(MessageAck),
    /// A message that a producer sends.
    Message(WireMessage),
    /// Also a response with data, which is not read.
    Response {
        correlation_id: i32,
    },
    ExceptionResponse {
        correlation_id: i32,
        exception: Thrown,
    },
    /// Any other type; 0 is no command at all.
    Other(u8),
}

/// A command as it was received.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// Its number at the sender, which a response names; 0 if there is none.
    pub command_id: i32,
    /// Whether the sender waits for a response.
    pub response_required: bool,
    /// The decoded command of the frame.
    pub command: Command,
}

/// A frame whose fields do not match its type. The frames after it are not affected. Once the id of a
/// dispatched message is readable, the rest is never malformed, see [`WireMessage::unreadable`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of type {kind} can't be read: {what}, at byte {position}")]
pub struct MalformedError {
    /// The type of the frame (`protocols.md §3.3`).
    pub kind: u8,
    /// The rule that the fields break.
    pub what: FieldError,
    /// The byte offset of the error in the fields.
    pub position: usize,
}

/// Reads the command in a frame to its last byte.
///
/// # Errors
/// The fields do not match the type.
pub fn decode(frame: &OpenWireFrame) -> Result<Received, MalformedError> {
    let mut reader = FieldReader::new(&frame.fields);
    Received::read(frame.kind, &mut reader).map_err(|what| MalformedError {
        kind: frame.kind,
        what,
        position: reader.position(),
    })
}

impl Received {
    fn read(kind: u8, reader: &mut FieldReader<'_>) -> Result<Self, FieldError> {
        if kind == types::WIRE_FORMAT_INFO {
            let command = Command::WireFormatInfo(WireFormatInfo::read(reader)?);
            reader.end()?;
            return Ok(Self { command_id: 0, response_required: false, command });
        }
        if !types::is_command(kind) {
            return Ok(Self { command_id: 0, response_required: false, command: Command::Other(kind) });
        }
        let (command_id, response_required) = (reader.int()?, reader.bool()?);
        let command = Command::read(kind, reader)?;
        Ok(Self { command_id, response_required, command })
    }
}

impl Command {
    fn read(kind: u8, reader: &mut FieldReader<'_>) -> Result<Self, FieldError> {
        let command = match kind {
            types::CONNECTION_INFO => Self::ConnectionInfo(ConnectionInfo::read(reader)?),
            types::SESSION_INFO => Self::SessionInfo(SessionInfo::read(reader)?),
            types::CONSUMER_INFO => Self::ConsumerInfo(ConsumerInfo::read(reader)?),
            types::KEEP_ALIVE_INFO => Self::KeepAliveInfo,
            types::SHUTDOWN_INFO => Self::ShutdownInfo,
            types::REMOVE_INFO => Self::RemoveInfo(RemoveInfo::read(reader)?),
            types::CONNECTION_ERROR => {
                let exception = Thrown::read(reader)?.unwrap_or_default();
                read_connection(reader)?;
                Self::ConnectionError { exception }
            }
            types::CONSUMER_CONTROL => Self::ConsumerControl(ConsumerControl::read(reader)?),
            // A dispatch may be unreadable and still valid, so it checks the end of the frame itself.
            types::MESSAGE_DISPATCH => return Dispatch::read(reader).map(Self::MessageDispatch),
            types::MESSAGE_ACK => Self::MessageAck(MessageAck::read(reader)?),
            types::RESPONSE => Self::Response { correlation_id: reader.int()? },
            types::EXCEPTION_RESPONSE => Self::ExceptionResponse {
                correlation_id: reader.int()?,
                exception: Thrown::read(reader)?.unwrap_or_default(),
            },
            types::DATA_RESPONSE | types::DATA_ARRAY_RESPONSE | types::INTEGER_RESPONSE => {
                return Ok(Self::Response { correlation_id: reader.int()? });
            }
            _ => match MessageKind::of(kind) {
                Some(kind) => Self::Message(WireMessage::read(kind, reader)?),
                None => return Ok(Self::Other(kind)),
            },
        };
        reader.end().map(|()| command)
    }

    /// Returns the type of the command (`protocols.md §3.3`).
    pub fn kind(&self) -> u8 {
        match self {
            Self::WireFormatInfo(_) => types::WIRE_FORMAT_INFO,
            Self::BrokerInfo(_) => types::BROKER_INFO,
            Self::ConnectionInfo(_) => types::CONNECTION_INFO,
            Self::SessionInfo(_) => types::SESSION_INFO,
            Self::ConsumerInfo(_) => types::CONSUMER_INFO,
            Self::KeepAliveInfo => types::KEEP_ALIVE_INFO,
            Self::ShutdownInfo => types::SHUTDOWN_INFO,
            Self::RemoveInfo(_) => types::REMOVE_INFO,
            Self::ConnectionError { .. } => types::CONNECTION_ERROR,
            Self::ConsumerControl(_) => types::CONSUMER_CONTROL,
            Self::MessageDispatch(_) => types::MESSAGE_DISPATCH,
            Self::MessageAck(_) => types::MESSAGE_ACK,
            Self::Message(message) => message.kind.id(),
            Self::Response { .. } => types::RESPONSE,
            Self::ExceptionResponse { .. } => types::EXCEPTION_RESPONSE,
            Self::Other(kind) => *kind,
        }
    }

    /// Appends the command as a frame. WireFormatInfo has neither number nor flag; `Other` has no fields.
    pub fn encode(&self, command_id: i32, response_required: bool, out: &mut Vec<u8>) {
        let start = out.len();
        let mut writer = FieldWriter(out);
        writer.int(0);
        writer.byte(self.kind());
        if !matches!(self, Self::WireFormatInfo(_) | Self::Other(0)) {
            writer.int(command_id);
            writer.bool(response_required);
        }
        self.write_fields(&mut writer);
        let size = u32::try_from(out.len() - start - size_of::<u32>()).unwrap_or(u32::MAX);
        out[start..start + size_of::<u32>()].copy_from_slice(&size.to_be_bytes());
    }

    fn write_fields(&self, writer: &mut FieldWriter<'_>) {
        match self {
            Self::WireFormatInfo(info) => info.write(writer),
            Self::BrokerInfo(info) => info.write(writer),
            Self::ConnectionInfo(info) => info.write(writer),
            Self::SessionInfo(info) => info.write(writer),
            Self::ConsumerInfo(info) => info.write(writer),
            Self::KeepAliveInfo | Self::ShutdownInfo | Self::Other(_) => {}
            Self::RemoveInfo(info) => info.write(writer),
            Self::ConnectionError { exception } => {
                exception.write(writer);
                writer.null(); // connectionId
            }
            Self::ConsumerControl(control) => control.write(writer),
            Self::MessageDispatch(dispatch) => dispatch.write(writer),
            Self::MessageAck(ack) => ack.write(writer),
            Self::Message(message) => message.write(writer),
            Self::Response { correlation_id } => writer.int(*correlation_id),
            Self::ExceptionResponse { correlation_id, exception } => {
                writer.int(*correlation_id);
                exception.write(writer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::super::properties::Value;
    use super::*;
    use crate::secret::Secret;
    use crate::source::openwire::testing::hex;

    fn read(wire: &[u8]) -> Received {
        let fields = Bytes::copy_from_slice(&wire[5..]);
        assert_eq!(
            usize::try_from(u32::from_be_bytes(wire[..4].try_into().unwrap())).unwrap(),
            wire.len() - 4
        );
        decode(&OpenWireFrame { kind: wire[4], fields }).unwrap()
    }

    /// Checks the encoding in both directions.
    fn assert_wire(command: Command, command_id: i32, response_required: bool, wire: &str) {
        let wire = hex(wire);
        let mut written = Vec::new();
        command.encode(command_id, response_required, &mut written);
        assert_eq!(written, wire);
        assert_eq!(read(&wire), Received { command_id, response_required, command });
    }

    /// The vectors of `protocols.md §3.10`: the first from ActiveMQ's own tests, the others as a broker
    /// accepts them.
    #[test]
    fn commands_as_activemq_writes_them() {
        let cache = vec![("CacheEnabled".to_owned(), Value::Bool(true))];
        assert_wire(
            Command::WireFormatInfo(WireFormatInfo { version: 1, properties: cache }),
            0,
            false,
            "00000026 01 4163746976654d51 00000001 01 00000014 00000001 000c 4361636865456e61626c6564 01 01",
        );
        assert_wire(
            Command::WireFormatInfo(WireFormatInfo::offer(
                Duration::from_secs(30),
                Duration::from_secs(10),
                100 << 20,
            )),
            0,
            false,
            "000000e0014163746976654d510000000c01000000ce00000008000c4361636865456e61626c6564010000145469676874456e\
             636f64696e67456e61626c65640100001253697a6550726566697844697361626c656401000011537461636b54726163654\
             56e61626c6564010000115463704e6f44656c6179456e61626c6564010100154d6178496e6163746976697479447572617\
             4696f6e06000000000000753000204d6178496e61637469766974794475726174696f6e496e6974616c44656c61790600000\
             00000002710000c4d61784672616d6553697a65060000000006400000",
        );
        assert_wire(
            Command::ConnectionInfo(ConnectionInfo {
                connection: "ID:bridge-0-1".into(),
                client_id: Some("bridge-0".to_owned()),
                password: Some(Secret::new("0123")),
                user_name: Some("12345".to_owned()),
            }),
            1,
            true,
            "00000039 03 00000001 01 01 78 01 000d 49443a6272696467652d302d31 01 0008 6272696467652d30
             01 0004 30313233 01 0005 3132333435 00 00 00 01 00 00 00",
        );
        assert_wire(Command::KeepAliveInfo, 7, false, "00000006 0a 00000007 00");
    }

    /// Version 1, in ActiveMQ's own tests, has the same fields and ends earlier.
    #[test]
    fn broker_info_begins_as_it_did_in_version_1() {
        let version_1 = hex("02 0000000c 00 01 7c 01 0010 49443a31323839303132383330313233
             01 0015 7463703a2f2f6c6f63616c686f73743a3631363136 00 01 0009 6c6f63616c686f7374 00 00 00");
        let broker = BrokerInfo {
            id: "ID:1289012830123".to_owned(),
            url: Some("tcp://localhost:61616".to_owned()),
            name: "localhost".to_owned(),
        };
        let mut written = Vec::new();
        Command::BrokerInfo(broker).encode(12, false, &mut written);
        assert_eq!(&written[4..4 + version_1.len()], version_1);
        assert_eq!(written.len(), 4 + version_1.len() + 2 + 8 + 2);
        assert_eq!(read(&written).command, Command::Other(2));
    }

    #[test]
    fn a_response_with_data_is_a_response() {
        let wire = hex("0000000f 20 00000000 00 00000009 01 64 01 0001 71");
        let response = Received {
            command_id: 0,
            response_required: false,
            command: { Command::Response { correlation_id: 9 } },
        };
        let fields = Bytes::copy_from_slice(&wire[5..]);
        assert_eq!(decode(&OpenWireFrame { kind: 32, fields }).unwrap(), response);
    }

    #[test]
    fn exceptions_are_short_text_without_control_characters() {
        let mut wire = Vec::new();
        let exception =
            Thrown { class: "java.lang.Error".into(), message: format!("a\n\u{1b}[31mb{}", "x".repeat(600)) };
        Command::ConnectionError { exception }.encode(0, false, &mut wire);
        let Command::ConnectionError { exception } = read(&wire).command else { panic!("another command") };
        assert!(exception.message.starts_with("a[31mbx"));
        assert_eq!(exception.message.chars().count(), 500);
        assert!(exception.to_string().starts_with("java.lang.Error: a"));
    }

    #[test]
    fn a_malformed_frame_says_what_and_where() {
        let malformed =
            decode(&OpenWireFrame { kind: 1, fields: Bytes::from_static(b"ActiveMX\0\0\0\x0c\0") });
        let shown = malformed.unwrap_err().to_string();
        assert_eq!(shown, "a frame of type 1 can't be read: it does not begin with \"ActiveMQ\", at byte 8");
        let short = decode(&OpenWireFrame { kind: 30, fields: Bytes::from_static(&[0; 7]) });
        assert_eq!(short.unwrap_err().position, 5);
        // A text longer than the frame.
        let text =
            decode(&OpenWireFrame { kind: 4, fields: Bytes::from_static(b"\0\0\0\0\0\x01\x79\x01\xff\xff") });
        assert_eq!(text.unwrap_err().what, "it ends too early");
    }
}
