//! Checks the username and the password from AtData for common mistakes: swapped, in quotes, encoded.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::diagnostics::Diagnostics;
use crate::display::unreadable;
use crate::secret::{Secret, SecretError};

/// Returns both if nothing is wrong with them.
pub(super) fn check(
    diagnostics: &mut Diagnostics,
    username: Option<String>,
    password: Option<Secret>,
    file: Option<&Path>,
) -> (Option<String>, Option<Secret>) {
    let username = diagnostics.required(USERNAME, username.as_deref(), "write AtData's 4 or 5 digits");
    let password = given(diagnostics, password, file);
    let shapes = (username.as_deref(), password.as_ref().map(|(_, password)| password.reveal()));
    if let (Some(name), Some(word)) = shapes
        && is_password(name)
        && is_username(word)
    {
        diagnostics.refuse(USERNAME, "the username and the password are swapped");
        return (None, None);
    }
    let username = username.filter(|name| check_username(diagnostics, name));
    let password = password.filter(|(key, password)| check_password(diagnostics, key, password));
    (username, password.map(|(_, password)| password))
}

const USERNAME: &str = "username";

/// STOMP's CONNECT has no escapes: a line feed in a value would begin another header.
pub(super) const CONTROL: &str = "control characters such as line feeds are not allowed";

/// Returns whether the username can be used. Does not show one that might be the password.
fn check_username(diagnostics: &mut Diagnostics, name: &str) -> bool {
    if name.contains(char::is_control) {
        diagnostics.refuse(USERNAME, CONTROL);
        return false;
    }
    if is_password(name) {
        diagnostics.refuse(USERNAME, "32 hex digits are a password of AtData: usernames are 4 or 5 digits");
        return false;
    }
    if is_username(name.trim()) && name.trim() != name {
        diagnostics.refuse(USERNAME, "begins or ends with white space: remove that");
        return false;
    }
    if !is_username(name) {
        diagnostics.warn(USERNAME, format!("`{name}` is not 4 or 5 digits, as AtData's are"));
    }
    true
}

/// Returns whether the password, set by `key`, can be used.
fn check_password(diagnostics: &mut Diagnostics, key: &str, password: &Secret) -> bool {
    if let Some(flaw) = password.flaw() {
        diagnostics.refuse(key, format!("the password {flaw}"));
        return false;
    }
    let text = password.reveal();
    if is_password(text) {
        return true;
    }
    let decoded = STANDARD.decode(text.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    if decoded.is_some_and(|decoded| is_password(decoded.trim())) {
        diagnostics.refuse(key, "the password is encoded in base64: write the 32 hex digits themselves");
        return false;
    }
    let bare = text.trim_matches(|c: char| c.is_whitespace() || ['"', '\''].contains(&c));
    match password.suspicion() {
        Some(error) if is_password(bare) || matches!(error, SecretError::Placeholder | SecretError::Mask) => {
            diagnostics.refuse(key, format!("the password {error}"));
            return false;
        }
        Some(error) => diagnostics.warn(key, format!("the password {error}")),
        None => diagnostics.warn(key, "the password is not 32 hex digits, as AtData's are"),
    }
    true
}

/// Returns the password, and the option that set it.
fn given(
    diagnostics: &mut Diagnostics,
    password: Option<Secret>,
    file: Option<&Path>,
) -> Option<(&'static str, Secret)> {
    const KEY: &str = "password";
    const FILE_KEY: &str = "password_file";
    match (password, file) {
        (Some(_), Some(_)) => diagnostics.refuse(FILE_KEY, "source.password is set too: keep one of them"),
        (Some(password), None) => return Some((KEY, password)),
        (None, Some(path)) => match Secret::read(path) {
            Ok(password) => return Some((FILE_KEY, password)),
            Err(error) => diagnostics.refuse(FILE_KEY, unreadable(path, &error)),
        },
        (None, None) => diagnostics.missing(KEY, "write it here, or better into a file"),
    }
    None
}

fn is_username(name: &str) -> bool {
    matches!(name.len(), 4 | 5) && name.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_password(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
