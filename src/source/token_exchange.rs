//! Token exchange as a source (RFC 8693).

use std::fmt;

use crate::error::{BuildError, SourceError};
use crate::oauth::{Client, Grant, GrantBuilder, GrantSource, Limit, TokenResponse};
use crate::source::{BoxSource, FetchContext, TokenSource};
use crate::token::Token;
use crate::transport::Form;

/// The type of an access token (RFC 8693 section 3).
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// Tokens in exchange for those of another source (RFC 8693): for a user or a machine (*impersonation*), or for one
/// party that acts for another (*delegation*, with [`actor`](GrantBuilder::actor)).
///
/// ```
/// use tokenflight::oauth::Client;
/// use tokenflight::{Token, source_fn};
///
/// let client = Client::builder("https://auth.example.com/token", "my-app").secret("s3cret").build()?;
/// let user = source_fn(|_cx| async { Ok(Token::new("the user's token")) });
/// let source = client.token_exchange(user).audience("https://api.example.com/").build()?;
/// # let _ = source;
/// # Ok::<(), tokenflight::BuildError>(())
/// ```
///
/// Each exchange gets the subject's token from its source. The [handle](crate::TokenHandle) of another actor is a
/// source too: it keeps the subject's token between two exchanges.
///
/// The new token lasts at most as long as the subject's token, if the issuer of the subject's token has stated an
/// end: a lifetime, or the `exp` of a JWT. The time until a [`FileToken`](crate::source::FileToken) reads its file
/// again does not count as an end.
pub type TokenExchange = GrantSource<TokenExchangeGrant>;

/// The grant of [`TokenExchange`].
#[derive(Clone)]
pub struct TokenExchangeGrant {
    subject: Party,
    actor: Option<Party>,
    requested: Option<String>,
}

/// The source of a token to send, and the token's type.
#[derive(Clone)]
struct Party {
    source: BoxSource,
    token_type: String,
}

impl Party {
    fn new(source: impl TokenSource) -> Self {
        Self { source: BoxSource::new(source), token_type: ACCESS_TOKEN.to_owned() }
    }

    async fn send(&self, name: &str, form: &mut Form, cx: &FetchContext) -> Result<Token, SourceError> {
        let token = self.source.token_for(&format!("the {name} of the token exchange"), cx).await?;
        form.secret(&format!("{name}_token"), token.secret());
        form.plain(&format!("{name}_token_type"), &self.token_type);
        Ok(token)
    }

    fn identify(&self, name: &str, part: &mut dyn FnMut(&str, &str)) {
        part(&format!("{name}_token_type"), &self.token_type);
        self.source.identify_as(name, part);
    }
}

/// An absolute URI.
fn is_uri(text: &str) -> bool {
    // The parser would remove white space.
    !text.contains(char::is_whitespace) && reqwest::Url::parse(text).is_ok()
}

impl Grant for TokenExchangeGrant {
    const TYPE: &'static str = "urn:ietf:params:oauth:grant-type:token-exchange";
    const PARAMETERS: &'static [&'static str] =
        &["subject_token", "subject_token_type", "actor_token", "actor_token_type", "requested_token_type"];
    // The source of the subject may sign its token itself.
    const IS_DATED: bool = true;

    fn check(&self, _client: &Client) -> Result<(), BuildError> {
        let actor = self.actor.as_ref().map(|actor| &actor.token_type);
        for (field, uri) in [
            ("subject_token_type", Some(&self.subject.token_type)),
            ("actor_token_type", actor),
            ("requested_token_type", self.requested.as_ref()),
        ] {
            if uri.is_some_and(|uri| !is_uri(uri)) {
                let message = "is no URI, and a token type is one (RFC 8693 section 3), such as \
                               \"urn:ietf:params:oauth:token-type:jwt\"";
                return Err(BuildError::new(field, message));
            }
        }
        Ok(())
    }

    async fn parameters(&self, form: &mut Form, cx: &FetchContext) -> Result<Limit, SourceError> {
        let subject = self.subject.send("subject", form, cx).await?;
        if let Some(actor) = &self.actor {
            actor.send("actor", form, cx).await?;
        }
        if let Some(requested) = &self.requested {
            form.plain("requested_token_type", requested);
        }
        Ok(Limit::of(&subject))
    }

    /// Section 2.2.1 requires this member: it gives the type of the token.
    fn check_response(&self, response: &TokenResponse) -> Result<(), String> {
        match (&response.issued_token_type, &self.requested) {
            (None, _) => Err("has no `issued_token_type` (RFC 8693 section 2.2.1)".to_owned()),
            (Some(issued), Some(requested)) if issued != requested => {
                Err("has another `issued_token_type` than the `requested_token_type`".to_owned())
            }
            (Some(_), _) => Ok(()),
        }
    }

    fn links(&self) -> Vec<&BoxSource> {
        let parties = [Some(&self.subject), self.actor.as_ref()];
        parties.into_iter().flatten().map(|party| &party.source).collect()
    }

    fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        self.subject.identify("subject", part);
        if let Some(actor) = &self.actor {
            actor.identify("actor", part);
        }
        if let Some(requested) = &self.requested {
            part("requested_token_type", requested);
        }
    }
}

impl Client {
    /// Tokens in exchange for those of `subject` (RFC 8693).
    pub fn token_exchange(&self, subject: impl TokenSource) -> GrantBuilder<TokenExchangeGrant> {
        let subject = Party::new(subject);
        GrantBuilder::new(self, TokenExchangeGrant { subject, actor: None, requested: None })
    }
}

impl<C> GrantBuilder<TokenExchangeGrant, C> {
    /// Sets another subject with the same token type: in [`for_key`](GrantBuilder::for_key), the subject of the
    /// key.
    pub fn subject(mut self, subject: impl TokenSource) -> Self {
        self.grant.subject.source = BoxSource::new(subject);
        self
    }

    /// The type of the subject's token (section 3). Default: `urn:ietf:params:oauth:token-type:access_token`.
    pub fn subject_token_type(mut self, uri: impl Into<String>) -> Self {
        self.grant.subject.token_type = uri.into();
        self
    }

    /// The party that acts for the subject (section 1.1). Its token is an access token, unless
    /// [`actor_token_type`](Self::actor_token_type) is called after this. Default: no actor.
    pub fn actor(mut self, actor: impl TokenSource) -> Self {
        self.grant.actor = Some(Party::new(actor));
        self
    }

    /// The type of the actor's token (section 3). Without an [`actor`](Self::actor) it has no effect.
    pub fn actor_token_type(mut self, uri: impl Into<String>) -> Self {
        if let Some(actor) = &mut self.grant.actor {
            actor.token_type = uri.into();
        }
        self
    }

    /// The requested type of the token (section 2.1). Another type in the answer is refused. Default: the server
    /// decides.
    pub fn requested_token_type(mut self, uri: impl Into<String>) -> Self {
        self.grant.requested = Some(uri.into());
        self
    }
}

impl fmt::Debug for TokenExchangeGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenExchangeGrant")
    }
}
