//! Fuzzes the OpenWire commands with any frame: a command that can be decoded encodes to a frame that decodes
//! to the same command. The type is before the fields.

#![no_main]

use atdata_bridge::source::openwire::wire::command::{Command, Received, decode};
use atdata_bridge::source::openwire::wire::framing::OpenWireFrame;
use libfuzzer_sys::fuzz_target;

fn encoded(received: &Received) -> Vec<u8> {
    let mut wire = Vec::new();
    received.command.encode(received.command_id, received.response_required, &mut wire);
    wire
}

/// The rest of such a message, after its id, is kept without decoding it.
fn is_unreadable(command: &Command) -> bool {
    let Command::MessageDispatch(dispatch) = command else { return false };
    dispatch.message.as_ref().is_some_and(|message| message.unreadable.is_some())
}

fuzz_target!(|input: &[u8]| {
    let Some((kind, fields)) = input.split_first() else { return };
    let Ok(received) = decode(&OpenWireFrame { kind: *kind, fields: fields.to_vec().into() }) else { return };
    if is_unreadable(&received.command) {
        return;
    }
    let wire = encoded(&received);
    assert_eq!(wire[4], received.command.kind());
    let again = decode(&OpenWireFrame { kind: wire[4], fields: wire[5..].to_vec().into() })
        .expect("an encoded command that decodes again");
    assert_eq!(encoded(&again), wire);
});
