//! The JWT bearer grant as a source (RFC 7523 section 2.1).

use std::fmt;

use crate::error::SourceError;
use crate::oauth::{Client, Grant, GrantBuilder, GrantSource, Limit};
use crate::source::{BoxSource, FetchContext, TokenSource};
use crate::transport::Form;

/// Tokens in exchange for a JWT (RFC 7523 section 2.1): of a service account, or of another server that the token
/// endpoint trusts.
///
/// The assertion is the token of another source: a [`SignedJwt`](super::SignedJwt), which this process signs, or
/// any other source (a chain).
///
/// ```
/// use tokenflight::oauth::{Client, PrivateKey};
/// use tokenflight::source::SignedJwt;
///
/// # fn main() -> Result<(), tokenflight::BuildError> {
/// # let pem = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/oauth/jws/tests/keys/p256.pem"));
/// let key = PrivateKey::from_pem(pem)?;
/// let url = "https://oauth2.example.com/token";
/// let account = SignedJwt::builder(key, "orders@project.example.com", url).build()?;
/// let client = Client::builder(url, "orders").public().build()?;
/// let source = client.jwt_bearer(account).scope("orders.read").build()?;
/// # let _ = source;
/// # Ok(())
/// # }
/// ```
pub type JwtBearer = GrantSource<JwtBearerGrant>;

/// The grant of [`JwtBearer`].
#[derive(Clone)]
pub struct JwtBearerGrant {
    assertion: BoxSource,
}

impl Grant for JwtBearerGrant {
    const TYPE: &'static str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    const PARAMETERS: &'static [&'static str] = &["assertion"];
    const IS_DATED: bool = true;

    async fn parameters(&self, form: &mut Form, cx: &FetchContext) -> Result<Limit, SourceError> {
        let token = self.assertion.token_for("the assertion of the grant", cx).await?;
        form.secret("assertion", token.secret());
        Ok(Limit::default())
    }

    fn links(&self) -> Vec<&BoxSource> {
        vec![&self.assertion]
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        self.assertion.identify_as("assertion", part);
    }
}

impl Client {
    /// Tokens in exchange for a JWT, which is the token of `assertion` (RFC 7523 section 2.1).
    pub fn jwt_bearer(&self, assertion: impl TokenSource) -> GrantBuilder<JwtBearerGrant> {
        GrantBuilder::new(self, JwtBearerGrant { assertion: BoxSource::new(assertion) })
    }
}

impl fmt::Debug for JwtBearerGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JwtBearerGrant")
    }
}
