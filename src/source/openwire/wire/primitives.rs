//! Reads and writes the primitives of loose encoding (`protocols.md §3.2`): big-endian numbers, and lengths
//! that are trusted only as far as there are bytes.

use bytes::Bytes;

use crate::source::protocol::java_text::{java_bytes, java_text};

/// The reason why bytes can't be read.
pub type FieldError = &'static str;

const SHORT: FieldError = "it ends too early";

/// Reads primitives off the front of a frame. It returns slices of the frame.
#[derive(Debug)]
pub struct FieldReader<'a> {
    frame: &'a Bytes,
    at: usize,
}

/// Every method fails if the frame ends too early or a length is negative.
impl<'a> FieldReader<'a> {
    pub fn new(frame: &'a Bytes) -> Self {
        Self { frame, at: 0 }
    }

    /// Returns the number of bytes read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Returns the number of bytes left.
    pub fn left(&self) -> usize {
        self.frame.len() - self.at
    }

    /// Returns the whole frame, read or not.
    pub fn frame(&self) -> Bytes {
        self.frame.clone()
    }

    /// Returns the bytes read since `start`, an earlier [`FieldReader::position`].
    pub fn since(&self, start: usize) -> Bytes {
        self.frame.slice(start..self.at)
    }

    /// Refuses leftover bytes: the sender meant other fields than were read.
    pub fn end(&self) -> Result<(), FieldError> {
        if self.left() == 0 { Ok(()) } else { Err("it is longer than its fields") }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FieldError> {
        let bytes = self.frame[self.at..].first_chunk().ok_or(SHORT)?;
        self.at += N;
        Ok(*bytes)
    }

    pub fn take(&mut self, length: usize) -> Result<&'a [u8], FieldError> {
        let bytes = self.frame[self.at..].get(..length).ok_or(SHORT)?;
        self.at += length;
        Ok(bytes)
    }

    /// Reads as many bytes as the `int` before them says.
    pub fn sized(&mut self) -> Result<&'a [u8], FieldError> {
        let length = self.length()?;
        self.take(length)
    }

    pub fn byte(&mut self) -> Result<u8, FieldError> {
        self.array().map(u8::from_be_bytes)
    }

    /// Any value except zero is true, as in Java.
    pub fn bool(&mut self) -> Result<bool, FieldError> {
        Ok(self.byte()? != 0)
    }

    pub fn short(&mut self) -> Result<i16, FieldError> {
        self.array().map(i16::from_be_bytes)
    }

    pub fn char(&mut self) -> Result<u16, FieldError> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn int(&mut self) -> Result<i32, FieldError> {
        self.array().map(i32::from_be_bytes)
    }

    pub fn long(&mut self) -> Result<i64, FieldError> {
        self.array().map(i64::from_be_bytes)
    }

    /// Reads an `int` that counts something.
    pub fn length(&mut self) -> Result<usize, FieldError> {
        usize::try_from(self.int()?).map_err(|_| "a length is negative")
    }

    /// Reads a text without the flag that tells whether there is one: modified UTF-8, as it came.
    pub fn plain_text(&mut self) -> Result<Bytes, FieldError> {
        let length = usize::from(self.char()?);
        Ok(self.frame.slice_ref(self.take(length)?))
    }

    /// Reads a text or null: modified UTF-8, as it came.
    pub fn text(&mut self) -> Result<Option<Bytes>, FieldError> {
        self.bool()?.then(|| self.plain_text()).transpose()
    }

    /// Reads a text that must not be null.
    pub fn some_text(&mut self) -> Result<Bytes, FieldError> {
        self.text()?.ok_or("a name is missing")
    }

    /// Reads a text or null, and decodes it.
    pub fn string(&mut self) -> Result<Option<String>, FieldError> {
        Ok(self.text()?.map(|text| java_text(&text).into_owned()))
    }

    pub fn skip_text(&mut self) -> Result<(), FieldError> {
        if self.bool()? {
            let length = usize::from(self.char()?);
            self.take(length)?;
        }
        Ok(())
    }

    /// Reads a byte sequence or null.
    pub fn bytes(&mut self) -> Result<Option<Bytes>, FieldError> {
        self.bool()?.then(|| Ok(self.frame.slice_ref(self.sized()?))).transpose()
    }

    /// Reads the type of the object whose fields follow, or null.
    pub fn object(&mut self) -> Result<Option<u8>, FieldError> {
        self.bool()?.then(|| self.byte()).transpose()
    }

    /// Reads an object of type `wanted` with `read`, or null.
    pub fn object_of<T>(
        &mut self,
        wanted: u8,
        read: impl FnOnce(&mut Self) -> Result<T, FieldError>,
    ) -> Result<Option<T>, FieldError> {
        match self.object()? {
            None => Ok(None),
            Some(kind) if kind == wanted => read(self).map(Some),
            Some(_) => Err("an object is of another type than its place allows"),
        }
    }

    /// Reads the number of objects in an array; a null array has none.
    pub fn count(&mut self) -> Result<usize, FieldError> {
        if !self.bool()? {
            return Ok(0);
        }
        usize::try_from(self.short()?).map_err(|_| "a count is negative")
    }
}

/// Writes primitives to the end of a buffer.
#[derive(Debug)]
pub struct FieldWriter<'a>(pub &'a mut Vec<u8>);

impl FieldWriter<'_> {
    pub fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    pub fn bool(&mut self, value: bool) {
        self.0.push(u8::from(value));
    }

    pub fn short(&mut self, value: i16) {
        self.raw(&value.to_be_bytes());
    }

    pub fn char(&mut self, value: u16) {
        self.raw(&value.to_be_bytes());
    }

    pub fn int(&mut self, value: i32) {
        self.raw(&value.to_be_bytes());
    }

    pub fn long(&mut self, value: i64) {
        self.raw(&value.to_be_bytes());
    }

    /// Writes an `int` that counts something; nothing written here reaches 2 GiB.
    pub fn length(&mut self, value: usize) {
        self.int(i32::try_from(value).unwrap_or(i32::MAX));
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Writes bytes after an `int` that says how many they are.
    pub fn sized(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.raw(bytes);
    }

    /// Writes the type of the property whose value follows.
    pub fn tagged(&mut self, tag: u8) -> &mut Self {
        self.byte(tag);
        self
    }

    /// Writes a text that is modified UTF-8 already, without the flag; cuts it where its length would not
    /// fit.
    pub fn plain_text(&mut self, text: &[u8]) {
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        self.char(length);
        self.raw(&text[..usize::from(length)]);
    }

    /// Writes a text that is modified UTF-8 already, or null.
    pub fn text(&mut self, text: Option<&[u8]>) {
        self.bool(text.is_some());
        if let Some(text) = text {
            self.plain_text(text);
        }
    }

    /// Writes a text or null as modified UTF-8.
    pub fn string(&mut self, text: Option<&str>) {
        let text = text.map(java_bytes);
        self.text(text.as_deref());
    }

    pub fn bytes(&mut self, bytes: Option<&[u8]>) {
        self.bool(bytes.is_some());
        if let Some(bytes) = bytes {
            self.sized(bytes);
        }
    }

    /// Begins an object that is not null; its fields follow.
    pub fn object(&mut self, kind: u8) {
        self.bool(true);
        self.byte(kind);
    }

    /// Writes a null text, object, array or sequence of bytes.
    pub fn null(&mut self) {
        self.bool(false);
    }
}
