//! The error of a token endpoint, for a program that must decide.

use std::fmt;

use http::StatusCode;

/// A token endpoint's error answer (RFC 6749 section 5.2).
///
/// It is in the chain of causes of a caller's error:
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
/// All its texts are printable, and cut. A text that contains a secret is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OAuthError {
    /// `error`: a word such as `invalid_client`.
    pub code: String,
    /// `error_description`: for human readers.
    pub description: Option<String>,
    /// `error_uri`: a web page for human readers.
    pub uri: Option<String>,
    /// The status of the answer. Some servers answer 200.
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

/// The whole sentence about a refusal.
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
