//! The challenges in a 401 (RFC 9110 section 11.6.1), and their meaning for the token.
//!
//! All header lines are read, and all challenges in each line. Malformed parts are skipped, and the rest is still
//! read: real servers omit commas and quotes. Everything is bounded.

mod verdict;

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

use crate::token::is_token_byte;

pub use verdict::StepUp;
pub(crate) use verdict::Verdict;

/// Header lines that are read, at most.
const LINES: usize = 16;
/// The maximum number of bytes of all lines: as much as servers allow for a whole head.
const BYTES: usize = 16 * 1024;
/// Challenges, at most.
const CHALLENGES: usize = 16;
/// Parameters of one challenge, at most.
const PARAMS: usize = 32;

/// One challenge: a scheme with its parameters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// In lower case.
    pub(crate) scheme: String,
    /// The text in the place of parameters, in some schemes ("Negotiate").
    pub(crate) token68: Option<String>,
    /// Names in lower case.
    params: Vec<(String, String)>,
}

impl Challenge {
    /// The parameter of this name, which is in lower case. If there are several, the first counts.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The challenges of an answer, in order.
pub(crate) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut left = BYTES;
    for line in headers.get_all(WWW_AUTHENTICATE).iter().take(LINES) {
        let line = line.as_bytes();
        let read = &line[..line.len().min(left)];
        left -= read.len();
        parse_line(read, &mut found);
    }
    found
}

fn parse_line(line: &[u8], found: &mut Vec<Challenge>) {
    let mut cursor = Cursor { rest: line };
    let mut current = None;
    loop {
        cursor.skip(|byte| is_space(byte) || byte == b',');
        if cursor.rest.is_empty() {
            break;
        }
        match cursor.item(current.is_some()) {
            Item::Scheme { scheme, token68 } => {
                found.extend(current.take());
                if found.len() >= CHALLENGES {
                    return;
                }
                current = Some(Challenge { scheme, token68, params: Vec::new() });
            }
            Item::Param(name, value) => {
                if let Some(challenge) = current.as_mut().filter(|challenge| challenge.params.len() < PARAMS)
                {
                    challenge.params.push((name, value));
                }
            }
            Item::Malformed => {}
        }
    }
    found.extend(current);
}

enum Item {
    Scheme { scheme: String, token68: Option<String> },
    Param(String, String),
    Malformed,
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// The item that begins here, and the spaces after it. `has_scheme`: there is a challenge to which a parameter
    /// can belong.
    fn item(&mut self, has_scheme: bool) -> Item {
        let word = self.take(is_token_byte);
        if word.is_empty() {
            return self.malformed();
        }
        let after_word = self.rest;
        self.skip(is_space);
        if has_scheme && self.rest.first() == Some(&b'=') {
            self.rest = &self.rest[1..];
            return self.value().map_or_else(|| self.malformed(), |value| Item::Param(lower(word), value));
        }
        let is_apart = self.rest.len() < after_word.len();
        match self.rest.first() {
            None | Some(b',') => Item::Scheme { scheme: lower(word), token68: None },
            Some(_) if !is_apart => self.malformed(),
            Some(_) => {
                let token68 = self.token68().map(text);
                Item::Scheme { scheme: lower(word), token68 }
            }
        }
    }

    /// A token68 that fills the space up to the next comma. Otherwise nothing is consumed.
    fn token68(&mut self) -> Option<&'a [u8]> {
        let mut ahead = Cursor { rest: self.rest };
        let word = ahead.take(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte));
        let pads = ahead.take(|byte| byte == b'=').len();
        let found = &self.rest[..word.len() + pads];
        ahead.skip(is_space);
        let ends = ahead.rest.first().is_none_or(|byte| *byte == b',');
        (ends && !word.is_empty()).then(|| {
            self.rest = ahead.rest;
            found
        })
    }

    /// The value of a parameter, with or without quotes. Without quotes it ends at the next comma or space: servers
    /// omit quotes around URLs too.
    fn value(&mut self) -> Option<String> {
        self.skip(is_space);
        if self.rest.first() != Some(&b'"') {
            let value = self.take(|byte| byte != b',' && byte != b'"' && !is_space(byte));
            let is_malformed = self.rest.first() == Some(&b'"');
            let value = (!is_malformed).then(|| text(value));
            self.skip_words_without_name();
            return value;
        }
        let mut value = Vec::new();
        let mut escaped = false;
        for (at, &byte) in self.rest.iter().enumerate().skip(1) {
            match byte {
                _ if escaped => {
                    escaped = false;
                    value.push(byte);
                }
                b'\\' => escaped = true,
                b'"' => {
                    self.rest = &self.rest[at + 1..];
                    self.skip_words_without_name();
                    return Some(text(&value));
                }
                _ => value.push(byte),
            }
        }
        None
    }

    /// A comma follows a value. If the comma is missing, another parameter may follow, but no scheme: words without
    /// a `=` are the rest of an unquoted text.
    fn skip_words_without_name(&mut self) {
        loop {
            self.skip(is_space);
            let mut ahead = Cursor { rest: self.rest };
            let word = ahead.take(is_token_byte);
            ahead.skip(is_space);
            match self.rest.first() {
                None | Some(b',') => return,
                Some(_) if !word.is_empty() && ahead.rest.first() == Some(&b'=') => return,
                Some(_) if !word.is_empty() => self.rest = ahead.rest,
                Some(_) => self.rest = &self.rest[1..],
            }
        }
    }

    /// Skips a malformed part, up to the next comma.
    fn malformed(&mut self) -> Item {
        self.skip(|byte| byte != b',');
        Item::Malformed
    }

    fn take(&mut self, is_part: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|byte| !is_part(*byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn skip(&mut self, is_part: impl Fn(u8) -> bool) {
        self.take(is_part);
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn lower(word: &[u8]) -> String {
    text(word).to_ascii_lowercase()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The same challenges as one header line, for the properties that a fuzzer checks.
#[cfg(any(test, fuzzing))]
pub(crate) fn write(challenges: &[Challenge]) -> String {
    let write = |challenge: &Challenge| {
        let mut line = challenge.scheme.clone();
        if let Some(token68) = &challenge.token68 {
            line.extend([" ", token68]);
        }
        for (at, (name, value)) in challenge.params.iter().enumerate() {
            let separator = if at == 0 && challenge.token68.is_none() { " " } else { ", " };
            line.extend([separator, name, "=\""]);
            for char in value.chars() {
                if matches!(char, '"' | '\\') {
                    line.push('\\');
                }
                line.push(char);
            }
            line.push('"');
        }
        line
    };
    challenges.iter().map(write).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
