//! A token's type, which is also the scheme of its header.

/// A token's type (RFC 6749 section 7.1): the scheme under which the token is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenType {
    /// RFC 6750.
    #[default]
    Bearer,
    /// RFC 9449.
    DPoP,
    /// Any other type, as the server wrote it. A header can carry only a type that is a token of RFC 9110 section
    /// 5.6.2. It cannot carry an empty type, or one with a space, a separator or a character outside of ASCII. An
    /// actor treats such a token as a failed attempt.
    Other(String),
}

/// Whether the byte is allowed in a token of RFC 9110 section 5.6.2.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether a server means a bearer token by this name. Many servers write another name than the standard's.
pub(crate) fn means_bearer(name: &str) -> bool {
    let letters: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let letters = letters.to_ascii_lowercase();
    letters.contains("bearer")
        || letters.contains("accesstoken")
        || name.trim().is_empty()
        || ["jwt", "token", "oauth", "oauth2"].contains(&letters.as_str())
}

/// Why a source without a key refuses the type `DPoP`. It continues the name of the setting.
pub(crate) const NO_PROOF: &str = "is \"DPoP\", a token that is bound to a key, and this source has no key for the proof (RFC \
                                   9449): use a grant of `oauth::Client` with `dpop`, or another type";

impl TokenType {
    /// Reads a `token_type`, in upper or lower case (RFC 6749 section 5.1).
    pub fn parse(name: &str) -> Self {
        match name {
            _ if name.eq_ignore_ascii_case("bearer") => Self::Bearer,
            _ if name.eq_ignore_ascii_case("dpop") => Self::DPoP,
            _ => Self::Other(name.to_owned()),
        }
    }

    /// The scheme in the `Authorization` header.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Bearer => "Bearer",
            Self::DPoP => "DPoP",
            Self::Other(name) => name,
        }
    }

    /// Whether the type says that a token is bound to a key, in any spelling.
    pub(crate) fn is_dpop(&self) -> bool {
        match self {
            Self::DPoP => true,
            Self::Other(name) => name.eq_ignore_ascii_case("dpop"),
            Self::Bearer => false,
        }
    }

    /// Whether the type can be a scheme: a token of RFC 9110 section 5.6.2.
    pub(crate) fn is_scheme(&self) -> bool {
        let name = self.as_str();
        !name.is_empty() && name.bytes().all(is_token_byte)
    }

    /// The fault of the type, if there is one. The type is quoted, unless it contains the secret.
    pub(super) fn flaw(&self, secret: &str) -> Option<String> {
        const SHOWN: usize = 40;
        if self.is_scheme() {
            return None;
        }
        let name = self.as_str();
        let quoted = match name.char_indices().nth(SHOWN) {
            _ if name.contains(secret) => "[redacted]".to_owned(),
            Some((end, _)) => format!("{:?}...", &name[..end]),
            None => format!("{name:?}"),
        };
        Some(format!("has the token_type {quoted}, which is not a token (RFC 9110 section 5.6.2)"))
    }
}
