//! Extracts the bytes of a message's body from its content on the wire (`protocols.md §3.5`, "Bodies").

use bytes::Bytes;

use super::inflate::Inflater;
use super::message::{MessageKind, WireMessage};
use super::primitives::FieldError;
use crate::budget::Budget;
use crate::source::protocol::java_text::repair_cesu8;

/// The body of a text or bytes message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageBody {
    /// The bytes to mirror. A text is UTF-8, unless it can't be decoded at all: then its bytes stay as they
    /// came.
    pub bytes: Bytes,
    /// Whether it was modified UTF-8 and was repaired (D6).
    pub repaired: bool,
}

/// The reason why a message has no body that can be mirrored. Its raw bytes are in [`WireMessage::content`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Only Java programs with the producer's classes can read the content, or it is in another store.
    #[error("{}{kind:?} messages have no body of text or bytes", if *.compressed { "compressed " } else { "" })]
    Kind { kind: MessageKind, compressed: bool },
    /// `size` is the real or the announced size.
    #[error("a body of {size} bytes is larger than the {limit} allowed")]
    TooLarge { size: usize, limit: usize },
    /// The content does not match what it announces.
    #[error("its bytes are corrupt: {0}")]
    Corrupt(FieldError),
}

/// Returns the body of a text or bytes message; a null body or none is empty. Copies only bodies that were
/// compressed or must be repaired, and charges those copies to `budget`.
///
/// # Errors
/// The message is of another kind, has more than `limit` bytes, or is corrupt.
pub fn body(message: &WireMessage, limit: usize, budget: &Budget) -> Result<MessageBody, BodyError> {
    if let Some(fault) = message.unreadable {
        return Err(BodyError::Corrupt(fault));
    }
    let content = match (message.kind, &message.content) {
        (MessageKind::Text | MessageKind::Bytes, Some(content)) => content,
        (MessageKind::Text | MessageKind::Bytes | MessageKind::Bare, None) => {
            return Ok(MessageBody { bytes: Bytes::new(), repaired: false });
        }
        (kind, _) => return Err(BodyError::Kind { kind, compressed: message.compressed }),
    };
    let is_text = message.kind == MessageKind::Text;
    let bytes = match (is_text, message.compressed) {
        (true, false) => plain_text(content, limit)?,
        (false, false) => content.slice(..check(content.len(), limit)?),
        (true, true) => budget.freeze(inflated_text(content, limit)?),
        (false, true) => budget.freeze(inflated_bytes(content, limit)?),
    };
    let repaired = if is_text { repair_cesu8(&bytes) } else { None };
    Ok(match repaired {
        Some(repaired) => MessageBody { bytes: budget.freeze(repaired), repaired: true },
        None => MessageBody { bytes, repaired: false },
    })
}

/// The size of the number that announces a length.
const LENGTH: usize = size_of::<i32>();

/// As in Java the announced length counts, and -1 stands for null.
fn plain_text(content: &Bytes, limit: usize) -> Result<Bytes, BodyError> {
    let (length, text) = content.split_first_chunk().ok_or(SHORT)?;
    let length = announced(*length)?;
    if length > text.len() {
        return Err(SHORT);
    }
    check(length, limit)?;
    Ok(content.slice(LENGTH..LENGTH + length))
}

/// The length is the beginning of the compressed bytes.
fn inflated_text(content: &[u8], limit: usize) -> Result<Vec<u8>, BodyError> {
    let mut inflater = Inflater::new(content);
    let mut length = [0; LENGTH];
    inflater.fill(&mut length).map_err(BodyError::Corrupt)?;
    inflated(&mut inflater, announced(length)?, limit)
}

/// The length stands before the compressed bytes, which may inflate to more than it says: Java compresses its
/// whole buffer.
fn inflated_bytes(content: &[u8], limit: usize) -> Result<Vec<u8>, BodyError> {
    let (length, compressed) = content.split_first_chunk().ok_or(SHORT)?;
    inflated(&mut Inflater::new(compressed), announced(*length)?, limit)
}

/// A length that can't be true is no reason to ask for a higher limit.
fn inflated(inflater: &mut Inflater<'_>, length: usize, limit: usize) -> Result<Vec<u8>, BodyError> {
    if inflater.may_hold(length) {
        check(length, limit)?;
    }
    inflater.body(length).map_err(BodyError::Corrupt)
}

const SHORT: BodyError = BodyError::Corrupt("it is shorter than it says");

fn announced(length: [u8; LENGTH]) -> Result<usize, BodyError> {
    match i32::from_be_bytes(length) {
        -1 => Ok(0),
        length => usize::try_from(length).map_err(|_| BodyError::Corrupt("its length is negative")),
    }
}

fn check(size: usize, limit: usize) -> Result<usize, BodyError> {
    if size > limit { Err(BodyError::TooLarge { size, limit }) } else { Ok(size) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ids::MessageId;
    use super::*;
    use crate::source::openwire::testing::{hex, text_content, zlib};

    const LIMIT: usize = 2000;

    fn message(kind: MessageKind, content: Option<&[u8]>, compressed: bool) -> WireMessage {
        let content = content.map(Bytes::copy_from_slice);
        WireMessage { content, compressed, ..WireMessage::new(kind, MessageId::default()) }
    }

    fn read(kind: MessageKind, content: &[u8], compressed: bool) -> Result<(Vec<u8>, bool), BodyError> {
        let body = body(&message(kind, Some(content), compressed), LIMIT, &Budget::new(1 << 20))?;
        Ok((body.bytes.to_vec(), body.repaired))
    }

    fn plain(body: &[u8]) -> Result<(Vec<u8>, bool), BodyError> {
        Ok((body.to_vec(), false))
    }

    fn with_length(length: i32, bytes: &[u8]) -> Vec<u8> {
        [&length.to_be_bytes()[..], bytes].concat()
    }

    /// As a broker sent them (`protocols.md §3.10`).
    #[test]
    fn bodies_as_activemq_writes_them() {
        let hello = hex("0000000568656c6c6f");
        assert_eq!(read(MessageKind::Text, &hello, false), plain(b"hello"));
        assert_eq!(text_content("hello"), hello);
        let stomp = hex("000000077b226e223a307d");
        assert_eq!(read(MessageKind::Text, &stomp, false), plain(b"{\"n\":0}"));
        let bytes = hex("00000006789c636064facfc0c5300a46c12818a10000353c010d");
        assert_eq!(read(MessageKind::Bytes, &bytes, true), plain(&[0, 1, 2, 0xFF, 0, 10]));
        let empty = hex("00000000789c63601805a360148c64000004040001");
        assert_eq!(read(MessageKind::Bytes, &empty, true), plain(b""));
        assert_eq!(read(MessageKind::Bytes, b"\0\xFF", false), plain(b"\0\xFF"));
    }

    #[test]
    fn a_compressed_text_with_half_a_pair_stays_as_its_bytes_are() {
        let text = hex("789c63606060ad78bb606f25000a060341");
        assert_eq!(read(MessageKind::Text, &text, true), plain(b"x\xED\xA0\xBDy"));
    }

    #[test]
    fn text_is_repaired_only_if_it_is_javas() {
        let text = |bytes: &[u8]| read(MessageKind::Text, &with_length(bytes.len() as i32, bytes), false);
        assert_eq!(text(b"\xED\xA0\xBD\xED\xB8\x80\xC0\x80"), Ok(("\u{1F600}\0".into(), true)));
        assert_eq!(text("\u{1F600}".as_bytes()), plain("\u{1F600}".as_bytes()));
        assert_eq!(text(b"\xFF\xFE"), plain(b"\xFF\xFE"));
        let java = b"\xED\xA0\xBD\xED\xB8\x80";
        assert_eq!(read(MessageKind::Bytes, java, false), plain(java));
    }

    #[test]
    fn null_and_nothing_are_empty() {
        for kind in [MessageKind::Text, MessageKind::Bytes, MessageKind::Bare] {
            let body = body(&message(kind, None, true), LIMIT, &Budget::new(1)).unwrap();
            assert_eq!((body.bytes.len(), body.repaired), (0, false));
        }
        assert_eq!(read(MessageKind::Text, &with_length(-1, b""), false), plain(b""));
        assert_eq!(read(MessageKind::Text, &zlib(&with_length(-1, b"")), true), plain(b""));
    }

    #[test]
    fn other_kinds_are_never_looked_into() {
        for kind in [MessageKind::Map, MessageKind::Object, MessageKind::Stream, MessageKind::Blob] {
            let refused = |compressed| BodyError::Kind { kind, compressed };
            assert_eq!(read(kind, b"\0\0\0\0", false), Err(refused(false)));
            assert_eq!(read(kind, b"\0\0\0\0", true), Err(refused(true)));
            assert_eq!(body(&message(kind, None, false), LIMIT, &Budget::new(1)), Err(refused(false)));
        }
        let kind = MessageKind::Bare;
        assert_eq!(read(kind, b"?", false), Err(BodyError::Kind { kind, compressed: false }));
    }

    #[test]
    fn what_is_shorter_than_it_says_is_corrupt_and_what_is_longer_is_cut() {
        for (content, compressed) in [
            (with_length(3, b"ab"), false),
            (vec![0, 0, 0], false),
            (zlib(&with_length(3, b"ab")), true),
            (zlib(&[0, 0, 0]), true),
        ] {
            assert!(matches!(read(MessageKind::Text, &content, compressed), Err(BodyError::Corrupt(_))));
        }
        assert_eq!(read(MessageKind::Text, &with_length(1, b"ab"), false), plain(b"a"));
        assert_eq!(read(MessageKind::Bytes, &with_length(9, &zlib(b"ab")), true), {
            Err(BodyError::Corrupt("it can't be decompressed"))
        });
        assert!(read(MessageKind::Bytes, &[0, 0, 0], true).is_err());
        let negative = Err(BodyError::Corrupt("its length is negative"));
        assert_eq!(read(MessageKind::Text, &with_length(-2, b"ab"), false), negative);
    }

    #[test]
    fn damage_is_found_even_where_it_inflates() {
        let mut content = with_length(100, &zlib(&[7; 100]));
        let last = content.len() - 1;
        content[last] ^= 1;
        assert_eq!(
            read(MessageKind::Bytes, &content, true),
            Err(BodyError::Corrupt("it can't be decompressed"))
        );
        assert!(read(MessageKind::Text, b"no zlib at all", true).is_err());
        let text = zlib(&text_content("cut before its checksum"));
        for cut in 1..=5 {
            assert_eq!(
                read(MessageKind::Text, &text[..text.len() - cut], true),
                Err(BodyError::Corrupt("it can't be decompressed"))
            );
        }
    }

    #[test]
    fn what_is_too_large_is_refused_by_what_it_says() {
        let size = LIMIT + 1;
        let refused = Err(BodyError::TooLarge { size, limit: LIMIT });
        assert_eq!(read(MessageKind::Text, &with_length(size as i32, &vec![b'x'; size]), false), refused);
        assert_eq!(read(MessageKind::Bytes, &vec![b'x'; size], false), refused);
        assert_eq!(read(MessageKind::Text, &zlib(&with_length(size as i32, b"")), true), refused);
        assert_eq!(
            read(MessageKind::Bytes, &with_length(size as i32, &zlib(&vec![b'x'; size])), true),
            refused
        );
        // A higher limit would not help these.
        for (kind, lie) in [
            (MessageKind::Text, with_length(i32::MAX, b"ab")),
            (MessageKind::Bytes, with_length(i32::MAX, &zlib(b"ab"))),
        ] {
            let compressed = kind == MessageKind::Bytes;
            assert_eq!(read(kind, &lie, compressed), Err(BodyError::Corrupt("it is shorter than it says")));
        }
        let nearly = vec![b'x'; LIMIT];
        assert_eq!(
            read(MessageKind::Bytes, &with_length(LIMIT as i32, &zlib(&nearly)), true),
            plain(&nearly)
        );
    }

    #[test]
    fn what_was_copied_is_charged() {
        let budget = Budget::new(1 << 20);
        let content = with_length(500, &zlib(&[b'x'; 500]));
        let body = body(&message(MessageKind::Bytes, Some(&content), true), LIMIT, &budget).unwrap();
        assert_eq!(budget.used(), 500);
        drop(body);
        assert_eq!(budget.used(), 0);
    }

    /// Computes the checksum of zlib streams (RFC 1950), which does not detect all damage to a few letters.
    fn adler32(bytes: &[u8]) -> (u32, u32) {
        bytes.iter().fold((1, 0), |(sum, sums), byte| {
            let sum = (sum + u32::from(*byte)) % 65521;
            (sum, (sums + sum) % 65521)
        })
    }

    proptest! {
        #[test]
        fn any_text_comes_back_compressed_or_not(text: String) {
            let content = text_content(&text);
            let read = |content: &[u8], compressed| read(MessageKind::Text, content, compressed).unwrap().0;
            prop_assert_eq!(read(&content, false), text.as_bytes());
            prop_assert_eq!(read(&zlib(&content), true), text.as_bytes());
        }

        #[test]
        fn any_bytes_come_back_with_any_surplus(
            bytes in proptest::collection::vec(any::<u8>(), 0..300), surplus in 0usize..10_000,
        ) {
            let whole = [&bytes[..], &vec![0; surplus]].concat();
            let content = with_length(bytes.len() as i32, &zlib(&whole));
            prop_assert_eq!(read(MessageKind::Bytes, &content, true), plain(&bytes));
        }

        #[test]
        fn any_damage_gives_the_body_or_an_error(
            text in "[a-z]{0,200}", at: prop::sample::Index, byte in any::<u8>(), is_text: bool,
        ) {
            let mut content = if is_text {
                zlib(&text_content(&text))
            } else {
                with_length(text.len() as i32, &zlib(text.as_bytes()))
            };
            let at = at.index(content.len());
            content[at] = byte;
            let kind = if is_text { MessageKind::Text } else { MessageKind::Bytes };
            if let Ok((body, _)) = read(kind, &content, true) {
                let is_prefix = text.as_bytes().starts_with(&body);
                prop_assert!(is_prefix || adler32(&body) == adler32(text.as_bytes()));
            }
        }
    }
}
