//! The server's own explanation of a refusal, and the places in which servers write it.

use serde_json::Value;

use super::Answer;
use crate::json::Document;

/// In the order in which they are checked.
const PLACES: &[&str] = &[
    "/error_description",
    "/error/message",
    "/error/error_description",
    "/message",
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

impl Answer {
    /// The server's explanation, if there is one without a secret.
    pub(crate) fn reason(&self, document: &Document, place: Option<&str>) -> Option<String> {
        let text = match place {
            Some(place) => text(document.get(place)?),
            None => PLACES.iter().find_map(|place| text(document.get(place)?)),
        }?;
        self.quoted(&text, LIMIT)
    }

    /// The same as the end of a sentence. Empty if there is no explanation.
    pub(crate) fn because(&self, document: &Document, place: Option<&str>) -> String {
        self.reason(document, place).map(|reason| format!(": {reason}")).unwrap_or_default()
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
