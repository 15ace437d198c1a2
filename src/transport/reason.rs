//! The server's own explanation of a refusal, and the places in which servers write it.

use serde_json::Value;
use zeroize::Zeroizing;

use super::{Answer, Redactor};
use crate::json::Document;

/// In the order in which they are checked.
const PLACES: &[&str] = &[
    "/error_description",
    "/error/message",
    "/error/error_description",
    "/message",
    "/Message",
    "/description",
    "/errorDescription",
    "/error_message",
    "/errorMessage",
    "/errorSummary",
    "/error_msg",
    "/msg",
    "/detail",
    "/title",
    "/reason",
    "/errors/0/message",
    "/errors/0/detail",
    "/errors/0",
    "/fault/faultstring",
    "/error",
];

/// In bytes.
const LIMIT: usize = 200;

/// In characters. A single run of so many characters may be a secret, unless it is made of words.
const LONG_RUN: usize = 16;

impl Answer {
    /// The server's explanation, if there is one without a secret.
    pub(crate) fn reason(&self, document: &Document, place: Option<&str>) -> Option<String> {
        let (found, text) = match place {
            Some(place) => explanation(document, place),
            None => PLACES.iter().find_map(|place| explanation(document, place)),
        }?;
        // A success carries secrets, and it is not known where. Only text is shown that cannot be one of them.
        if self.is_success() && !is_harmless(&text, place.is_some() || says_failed(document)) {
            return None;
        }
        self.without_others(document, found).quoted(&text, LIMIT)
    }

    /// The same as the end of a sentence. Empty if there is no explanation.
    pub(crate) fn because(&self, document: &Document, place: Option<&str>) -> String {
        self.reason(document, place).map(|reason| format!(": {reason}")).unwrap_or_default()
    }

    /// Also hides the other texts of the document that may be secrets, such as a refresh token: some servers send
    /// one, and quote it in their explanation.
    fn without_others(&self, document: &Document, explanation: &Value) -> Redactor {
        const MOST: usize = 64;
        let may_be_secret = |text: &str| {
            if self.is_success() {
                text.chars().count() >= 6 && !text.split_whitespace().all(is_wordy)
            } else {
                is_like_a_token(text)
            }
        };
        let mut redactor = self.redactor.clone();
        let mut count = 0;
        document.strings(&mut |text| {
            // Some servers write the explanation twice.
            if explanation.as_str() == Some(text) || !may_be_secret(text) {
                return;
            }
            count += 1;
            if count <= MOST {
                redactor.hide(Zeroizing::new(text.trim().to_owned()));
            } else {
                redactor.hide_all();
            }
        });
        redactor
    }
}

/// The value at this place with its text, if it has one.
fn explanation<'a>(document: &'a Document, place: &str) -> Option<(&'a Value, String)> {
    let value = document.get(place)?;
    let text = match value {
        Value::String(text) if !text.trim().is_empty() => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    Some((value, text))
}

/// Whether a document that came with a success reports a failure nevertheless.
fn says_failed(document: &Document) -> bool {
    let is_false = |place| document.get(place) == Some(&Value::Bool(false));
    let is_set = |place| match document.get(place) {
        None | Some(Value::Bool(false)) => false,
        Some(Value::String(text)) => !text.trim().is_empty(),
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(fields)) => !fields.is_empty(),
        Some(_) => true,
    };
    is_false("/ok") || is_false("/success") || is_set("/error") || is_set("/errors")
}

/// Whether a text in a success can be shown. If the answer reports no failure, the text may be the token: then it must
/// be a sentence of words.
fn is_harmless(text: &str, failed: bool) -> bool {
    let mut runs = text.split_whitespace();
    if failed {
        return runs.all(|run| run.chars().count() < LONG_RUN || is_wordy(run));
    }
    text.split_whitespace().nth(1).is_some() && runs.all(is_wordy)
}

/// Whether a text in a refusal may be a token. A refusal seldom carries one. Its other texts are sentences, numbers of
/// requests, moments and paths, which an explanation may repeat.
fn is_like_a_token(text: &str) -> bool {
    let text = text.trim();
    let is_number_of_a_request = || text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let is_moment = || text.bytes().all(|byte| byte.is_ascii_digit() || b"-:.+TZ".contains(&byte));
    let is_path = || text.starts_with('/') || text.contains("://");
    text.chars().count() >= LONG_RUN
        && !text.contains(char::is_whitespace)
        && !is_wordy(text)
        && !is_number_of_a_request()
        && !is_moment()
        && !is_path()
}

/// Whether a run of characters is made of words, like `invalid_client`. A word has only letters, and not many.
fn is_wordy(run: &str) -> bool {
    let is_mark = |char: char| ".,;:!?'\"()[]".contains(char);
    let mut words = run.trim_matches(is_mark).split(['_', '-', '.', ':', '/', '\'']);
    words.all(|word| word.len() < LONG_RUN && word.bytes().all(|byte| byte.is_ascii_alphabetic()))
}
