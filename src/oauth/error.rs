//! The error of a token endpoint, for a program that has to decide.

use std::fmt;

use http::StatusCode;

/// What a token endpoint answered instead of a token (RFC 6749 section 5.2).
///
/// It is found in the chain of causes of what a caller gets:
///
/// ```
/// use tokenflight::TokenError;
/// use tokenflight::oauth::OAuthError;
///
/// fn is_scope_at_fault(error: &TokenError) -> bool {
///     error.cause::<OAuthError>().is_some_and(|error| error.code == "invalid_scope")
/// }
/// # let _ = is_scope_at_fault;
/// ```
///
/// All of its text is printable, and cut. A text in which a secret could be read is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OAuthError {
    /// `error`: a word such as `invalid_client`.
    pub code: String,
    /// `error_description`: for people.
    pub description: Option<String>,
    /// `error_uri`: a page for people.
    pub uri: Option<String>,
    /// The status of the answer; some servers answer 200.
    pub status: StatusCode,
}

impl OAuthError {
    /// An error with this code, without a description, for tests.
    pub fn new(status: StatusCode, code: impl Into<String>) -> Self {
        Self { code: code.into(), description: None, uri: None, status }
    }
}

impl fmt::Display for OAuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)?;
        if let Some(description) = &self.description {
            write!(f, " ({description})")?;
        }
        if let Some(uri) = &self.uri {
            write!(f, ", see {uri}")?;
        }
        Ok(())
    }
}

impl std::error::Error for OAuthError {}

/// The whole sentence about an answer that says no.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) sentence: String,
    pub(super) error: OAuthError,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Refusal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}
