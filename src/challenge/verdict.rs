//! The meaning of a 401's challenges for the token that was sent.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use http::HeaderMap;
use serde_json::{Map, Value};

use super::{Challenge, challenges};

/// Longer claims are ignored: claims go into a form for the token endpoint.
const LONGEST_CLAIMS: usize = 8 * 1024;
/// A longer list of authentication contexts is cut, because the list is part of an error's text.
const LONGEST_ACR_VALUES: usize = 256;

/// Schemes of APIs that expect a token, under the names that some of them use for `Bearer`.
const OTHER_NAMES: [&str; 5] = ["dpop", "oauth", "oauth2", "token", "jwt"];

/// The statement of a 401 about the token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// `invalid_token` (RFC 6750 section 3.1).
    InvalidToken,
    /// Nothing specific: no challenge, none with an error, or an error that no standard defines.
    Unsaid,
    /// `use_dpop_nonce` (RFC 9449 section 9): the token is accepted, but its proof needs the nonce.
    WantsNonce,
    /// `insufficient_user_authentication` (RFC 9470): no refresh helps.
    StepUp(StepUp),
    /// `insufficient_claims`: the API requires a token with these claims (Microsoft Entra, continuous access
    /// evaluation). JSON.
    Claims(String),
    /// Another token would not help: the API requires another scheme, or has another fault.
    NotOurs,
}

/// The API requires a new or stronger authentication of the user (RFC 9470). No refresh of a token achieves this.
///
/// Begin a login with these values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StepUp {
    /// The accepted authentication contexts, separated by spaces, in the order of preference.
    pub acr_values: Option<String>,
    /// The maximum time since the user's authentication.
    pub max_age: Option<Duration>,
}

impl Verdict {
    /// The verdict on a 401 to a token of this scheme.
    pub(crate) fn of(headers: &HeaderMap, scheme: &str) -> Self {
        let challenges = challenges(headers);
        if challenges.is_empty() {
            return Self::Unsaid;
        }
        let scheme = scheme.to_ascii_lowercase();
        let of = |scheme: &&str| {
            let named = challenges.iter().filter(|challenge| challenge.scheme == *scheme);
            named.min_by_key(|challenge| challenge.param("error").is_none())
        };
        // A challenge with an error says more than one that only names a scheme: an API with two schemes lists both.
        let own = [scheme.as_str(), "bearer"];
        let with_error = own.iter().filter_map(of).find(|challenge| challenge.param("error").is_some());
        let any = || own.iter().chain(&OTHER_NAMES).find_map(of);
        with_error.or_else(any).map_or(Self::NotOurs, Self::of_challenge)
    }

    fn of_challenge(challenge: &Challenge) -> Self {
        match challenge.param("error") {
            // With claims: Entra's answer after it has revoked a user's sessions.
            Some("invalid_token") => {
                challenge.param("claims").and_then(claims).map_or(Self::InvalidToken, Self::Claims)
            }
            Some("use_dpop_nonce") => Self::WantsNonce,
            Some("insufficient_user_authentication") => Self::StepUp(StepUp::of(challenge)),
            Some("insufficient_claims") => {
                challenge.param("claims").and_then(claims).map_or(Self::NotOurs, Self::Claims)
            }
            Some("insufficient_scope" | "invalid_dpop_proof" | "invalid_request") => Self::NotOurs,
            Some(_) | None => Self::Unsaid,
        }
    }
}

impl StepUp {
    fn of(challenge: &Challenge) -> Self {
        let acr_values = challenge.param("acr_values").map(|values| {
            let printable = |char: &char| char.is_ascii_graphic() || *char == ' ';
            values.chars().filter(printable).take(LONGEST_ACR_VALUES).collect()
        });
        let max_age = challenge.param("max_age").and_then(|age| age.parse().ok()).map(Duration::from_secs);
        Self { acr_values, max_age }
    }
}

impl fmt::Display for StepUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the API wants the user to authenticate again")?;
        if let Some(values) = &self.acr_values {
            write!(f, ", with acr_values \"{values}\"")?;
        }
        if let Some(age) = self.max_age {
            write!(f, ", at most {} s ago", age.as_secs())?;
        }
        Ok(())
    }
}

impl std::error::Error for StepUp {}

/// A JSON object, plain or in base64: with the standard alphabet or the one for URLs, with padding or without.
fn claims(text: &str) -> Option<String> {
    const CONFIG: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let is_object = |text: &str| serde_json::from_str::<Map<String, Value>>(text).is_ok();
    if text.len() > LONGEST_CLAIMS {
        return None;
    }
    if is_object(text) {
        return Some(text.to_owned());
    }
    let decoded = [STANDARD, URL_SAFE]
        .iter()
        .find_map(|alphabet| GeneralPurpose::new(alphabet, CONFIG).decode(text).ok())?;
    String::from_utf8(decoded).ok().filter(|text| is_object(text))
}
