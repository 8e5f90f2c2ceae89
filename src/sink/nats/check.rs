//! Checks the server and the stream for the verb `check`; publishes no event and creates nothing.

use super::opener::{NatsSink, subscribe, values};
use super::stream;
use crate::finding::{Finding, codes};
use crate::sink::SinkError;

/// Returns what is known about the server and the stream, for the operator. An error says why the sink could not be
/// opened.
pub(super) async fn check(sink: &mut NatsSink) -> Result<Vec<Finding>, SinkError> {
    let mut connection = sink.connect().await?;
    let (inbox, mut subscriber) = subscribe(&connection.client).await?;
    let server = connection.client.server_info();
    let message = format!("connected to nats-server {} at {}:{}", server.version, server.host, server.port);
    let mut found = vec![Finding::detail(codes::NATS_SERVER, message)];
    let client = connection.client.clone();
    let warnings = match sink.settings.stream.clone() {
        None => {
            sink.try_round_trip(&mut connection, &inbox, &mut subscriber).await?;
            sink.warnings(&client, None)
        }
        Some(name) => match sink.look_up(&mut connection, &name).await? {
            Some(info) => {
                stream::has_room(&info)?;
                found.push(Finding::detail(codes::NATS_STREAM, stream::describe(&info)));
                sink.warnings(&client, Some(values(&info)))
            }
            None => {
                let create = sink.settings.create.as_ref();
                let wanted = create.ok_or_else(|| sink.explainer.no_stream(&name))?;
                let config = wanted.config(&name, sink.explainer.subject().pattern());
                stream::verify(&config, &sink.explainer)?;
                let message = format!("stream {name} does not exist yet and will be made");
                found.push(Finding::detail(codes::NATS_STREAM_TO_BE_MADE, message));
                sink.warnings(&client, Some((&config, None)))
            }
        },
    };
    found.extend(warnings);
    Ok(found)
}
