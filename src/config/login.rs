//! Checks the username and the password from AtData for common mistakes: swapped, in quotes, encoded.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::reader::ConfigReader;
use crate::display::unreadable;
use crate::secret::{Secret, SecretError};

/// Returns both if nothing is wrong with them.
pub(super) fn check(
    reader: &mut ConfigReader,
    username: Option<String>,
    password: Option<Secret>,
    file: Option<&Path>,
) -> (Option<String>, Option<Secret>) {
    let username = reader.required(USERNAME, username);
    let password = given(reader, password, file);
    let shapes = (username.as_deref(), password.as_ref().map(|(_, password)| password.reveal()));
    if let (Some(name), Some(word)) = shapes
        && is_password(name)
        && is_username(word)
    {
        reader.refuse(USERNAME, "the username and the password are swapped");
        return (None, None);
    }
    let username = username.filter(|name| check_username(reader, name));
    let password = password.filter(|(key, password)| check_password(reader, key, password));
    (username, password.map(|(_, password)| password))
}

const USERNAME: &str = "source.username";

/// STOMP's CONNECT has no escapes: a line feed in a value would begin another header.
pub(super) const CONTROL: &str = "control characters such as line feeds are not allowed";

/// Returns whether the username can be used. Does not show one that might be the password.
fn check_username(reader: &mut ConfigReader, name: &str) -> bool {
    if name.contains(char::is_control) {
        reader.refuse(USERNAME, CONTROL);
        return false;
    }
    if is_password(name) {
        reader.refuse(USERNAME, "32 hex digits are a password of AtData: usernames are 4 or 5 digits");
        return false;
    }
    if is_username(name.trim()) && name.trim() != name {
        reader.refuse(USERNAME, "begins or ends with white space: remove that");
        return false;
    }
    if !is_username(name) {
        reader.warn(USERNAME, &format!("`{name}` is not 4 or 5 digits, as AtData's are"));
    }
    true
}

/// Returns whether the password, set by `key`, can be used.
fn check_password(reader: &mut ConfigReader, key: &str, password: &Secret) -> bool {
    if let Some(flaw) = password.flaw() {
        reader.refuse(key, format!("the password {flaw}"));
        return false;
    }
    let text = password.reveal();
    if is_password(text) {
        return true;
    }
    let decoded = STANDARD.decode(text.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    if decoded.is_some_and(|decoded| is_password(decoded.trim())) {
        reader.refuse(key, "the password is encoded in base64: write the 32 hex digits themselves");
        return false;
    }
    let bare = text.trim_matches(|c: char| c.is_whitespace() || ['"', '\''].contains(&c));
    match password.suspicion() {
        Some(error) if is_password(bare) || matches!(error, SecretError::Placeholder | SecretError::Mask) => {
            reader.refuse(key, format!("the password {error}"));
            return false;
        }
        Some(error) => reader.warn(key, &format!("the password {error}")),
        None => reader.warn(key, "the password is not 32 hex digits, as AtData's are"),
    }
    true
}

/// Returns the password, and the option that set it.
fn given(
    reader: &mut ConfigReader,
    password: Option<Secret>,
    file: Option<&Path>,
) -> Option<(&'static str, Secret)> {
    const KEY: &str = "source.password";
    const FILE_KEY: &str = "source.password_file";
    match (password, file) {
        (Some(_), Some(_)) => reader.refuse(FILE_KEY, format!("{KEY} is set too: keep one of them")),
        (Some(password), None) => return Some((KEY, password)),
        (None, Some(path)) => match Secret::read(path) {
            Ok(password) => return Some((FILE_KEY, password)),
            Err(error) => reader.refuse(FILE_KEY, unreadable(path, &error)),
        },
        (None, None) => reader.missing_either(KEY, FILE_KEY),
    }
    None
}

fn is_username(name: &str) -> bool {
    matches!(name.len(), 4 | 5) && name.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_password(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
