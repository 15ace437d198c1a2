//! The reason why a header cannot carry a secret.

use super::Token;

/// The first byte that no header can carry, with its position. It continues the sentence "the token has ...".
pub(crate) fn stray(secret: &[u8]) -> Option<String> {
    let (at, byte) = secret.iter().enumerate().find(|(_, byte)| !byte.is_ascii_graphic())?;
    let what = match byte {
        b' ' => "a space".to_owned(),
        b'\n' | b'\r' => "a line break".to_owned(),
        byte => format!("byte 0x{byte:02x}"),
    };
    Some(format!("{what} at position {} that no header can carry", at + 1))
}

impl Token {
    /// The reason why no server can accept the token, wherever it is sent. It continues the sentence "the token ...", and
    /// does not show the secret.
    #[cfg(feature = "http")]
    pub(crate) fn break_in_it(&self) -> Option<String> {
        let secret = self.secret();
        if secret.is_empty() {
            return Some("is empty".to_owned());
        }
        let at = secret.chars().position(char::is_control)?;
        Some(format!("has a line break or a control character at position {}", at + 1))
    }

    /// The reason why a header cannot carry the token, if there is one. It continues the sentence "the token ...",
    /// and does not show the secret.
    pub(crate) fn flaw(&self) -> Option<String> {
        let secret = self.secret();
        if secret.is_empty() {
            return Some("is empty, and no header can carry that".to_owned());
        }
        match stray(secret.as_bytes()) {
            Some(what) => Some(format!("has {what}")),
            None => self.0.kind.flaw(secret),
        }
    }
}
