//! Any OpenWire frame, its type before its fields: what can be read is written so that it reads the same.

#![no_main]

use atdata_bridge::source::openwire::wire::command::{Command, Received, decode};
use atdata_bridge::source::openwire::wire::framing::OpenWireFrame;
use libfuzzer_sys::fuzz_target;

fn written(received: &Received) -> Vec<u8> {
    let mut wire = Vec::new();
    received.command.encode(received.command_id, received.response_required, &mut wire);
    wire
}

/// What is behind the id of such a message is kept as it is, not understood.
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
    let wire = written(&received);
    assert_eq!(wire[4], received.command.kind());
    let again =
        decode(&OpenWireFrame { kind: wire[4], fields: wire[5..].to_vec().into() }).expect("reads again");
    assert_eq!(written(&again), wire);
});
