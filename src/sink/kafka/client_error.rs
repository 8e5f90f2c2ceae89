//! Reads librdkafka's text about a failed connection.

use rdkafka::types::RDKafkaErrorCode as Code;

use crate::display::one_line;

/// Why a connection of a client failed, as librdkafka says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientError {
    pub(super) code: Code,
    /// The part of librdkafka's text that tells the cause. Broker, times and counts are removed, because they
    /// would make every failure a new one.
    pub(super) words: String,
    /// Number and address of the broker; `None` if only a configured address is known.
    pub(super) broker: Option<(i32, String)>,
}

impl ClientError {
    pub(super) fn new(code: Code, words: &str) -> Self {
        let words = words.split(" (after ").next().unwrap_or(words);
        // `sasl_ssl://host:9092/bootstrap: what has failed`, or `host:9092/1: what has failed`.
        let named = words.split_once(": ").and_then(|(who, what)| {
            let (address, id) = who.rsplit_once('/').filter(|_| !who.contains(' '))?;
            let address = address.split_once("://").map_or(address, |(_, address)| address);
            Some((id.parse().ok().map(|id| (id, one_line(address).into_owned())), what))
        });
        let (broker, what) = named.unwrap_or((None, words));
        Self { code, words: one_line(what).into_owned(), broker }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_librdkafka_are_the_same_each_time() {
        let words = "sasl_plaintext://127.0.0.1:9092/1: SASL authentication error: Authentication failed: Invalid \
                     username or password (after 302ms in state AUTH_REQ, 1 identical error(s) suppressed)";
        let short = "SASL authentication error: Authentication failed: Invalid username or password";
        let failure = ClientError::new(Code::Authentication, words);
        assert_eq!((failure.words.as_str(), failure.broker), (short, Some((1, "127.0.0.1:9092".to_owned()))));
        for (words, what, broker) in [
            ("Failed to resolve 'a:1': no", "Failed to resolve 'a:1': no", None),
            ("a:1/bootstrap: Connect to ipv4#a:1 failed: no", "Connect to ipv4#a:1 failed: no", None),
            ("a:1/2: Connect failed: no", "Connect failed: no", Some((2, "a:1".to_owned()))),
        ] {
            let failure = ClientError::new(Code::BrokerTransportFailure, words);
            assert_eq!((failure.words.as_str(), failure.broker), (what, broker));
        }
    }
}
