//! The address that a source calls. It is checked at configuration, and shown without its secrets.

use http::Uri;
use http::header::LOCATION;
use reqwest::Url;
use zeroize::Zeroizing;

use super::Redactor;
use crate::error::BuildError;
use crate::host::Host;

/// An absolute http or https URL without user, password and fragment.
#[derive(Clone)]
pub(crate) struct Endpoint {
    field: &'static str,
    url: Url,
    shown: String,
    /// The query is made by this crate of settings that are not secret.
    has_own_query: bool,
}

impl Endpoint {
    /// `field` is the setting with this text. No error quotes the text, because its query may be secret.
    pub(crate) fn parse(field: &'static str, text: &str) -> Result<Self, BuildError> {
        let url = Url::parse(text).map_err(|error| {
            BuildError::new(
                field,
                format!("is not an absolute URL like \"https://auth.example.com/token\" ({error})"),
            )
        })?;
        let refusal = match () {
            () if !matches!(url.scheme(), "http" | "https") => "has a scheme that is neither https nor http",
            () if !url.username().is_empty() || url.password().is_some() => {
                "holds a user or password, which would end up in logs: give them by their own settings"
            }
            () if url.fragment().is_some() => "has a fragment (#...), which is never sent: remove it",
            // For example, a URL in which a name in braces was not replaced. The HTTP client would refuse it at the
            // first request.
            () if url.as_str().parse::<Uri>().is_err() => {
                "has a character in its host that no host has, or is longer than 65,534 bytes: write the name of the server"
            }
            () => {
                let shown = shown(&url);
                return Ok(Self { field, url, shown, has_own_query: false });
            }
        };
        Err(BuildError::new(field, refusal))
    }

    /// A path that this kind of server has, below the address in `field`. `parts`: the parts of that address.
    pub(crate) fn below(
        field: &'static str,
        base: &str,
        parts: &str,
        path: &str,
    ) -> Result<Self, BuildError> {
        let base = base.trim_end_matches('/');
        if base.contains(['?', '#']) {
            return Err(BuildError::new(field, format!("has a query or a fragment: give {parts}")));
        }
        Ok(Self { has_own_query: true, ..Self::parse(field, &format!("{base}{path}"))? })
    }

    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// Scheme, host, port and path.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// Hides the values in a query from the settings: some servers expect a key there.
    pub(super) fn hide_query(&self, redactor: &mut Redactor) {
        let Some(query) = self.url.query().filter(|_| !self.has_own_query) else { return };
        for (name, value) in self.url.query_pairs() {
            // `?key` is a value without a name.
            redactor.hide(Zeroizing::new(if value.is_empty() { name } else { value }.into_owned()));
        }
        for pair in query.split('&') {
            let value = pair.split_once('=').map_or(pair, |(_, value)| value);
            redactor.hide(Zeroizing::new(value.to_owned()));
        }
    }

    /// Credentials go in clear only inside this machine, or if the user allows it.
    pub(crate) fn check_plaintext(&self, is_allowed: bool) -> Result<(), BuildError> {
        if self.url.scheme() == "https"
            || is_allowed
            || Host::parse(self.url.host_str().unwrap_or_default()).is_loopback()
        {
            return Ok(());
        }
        let message = "is http: every host on the route could read the credentials and the tokens; use https, or say \
                       `allow_http` if nobody can";
        Err(BuildError::new(self.field, message))
    }

    /// TLS needs a feature of this crate.
    pub(super) fn check_tls(&self) -> Result<(), BuildError> {
        let has_tls = cfg!(any(feature = "rustls", feature = "rustls-no-provider", feature = "native-tls"));
        if self.url.scheme() == "https" && !has_tls {
            let message = "is https, and no TLS is built in: turn on tokenflight's feature `rustls`, \
                           `rustls-no-provider` or `native-tls`";
            return Err(BuildError::new(self.field, message));
        }
        Ok(())
    }

    /// The target of a redirect, without the parts that may be secret.
    pub(super) fn location(&self, response: &reqwest::Response) -> Option<String> {
        let text = response.headers().get(LOCATION)?.to_str().ok()?;
        Some(shown(&self.url.join(text).ok()?))
    }
}

/// Neither userinfo nor query, because both contain secrets in practice.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Both calls fail only if there is no host. Then there is nothing to remove.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_work_is_refused_with_its_reason() {
        let long = format!("https://auth.example.com/{}", "s3cret".repeat(11_000));
        for (text, reason) in [
            ("", "absolute"),
            ("/token", "absolute"),
            ("auth.example.com/token", "absolute"),
            ("https://", "absolute"),
            ("ftp://auth.example.com/token", "scheme"),
            ("https://user:s3cret@auth.example.com/token", "password"),
            ("https://s3cret@auth.example.com/token", "user"),
            ("https://auth.example.com/token#s3cret", "fragment"),
            ("https://{tenant}.example.com/token", "host"),
            ("https://auth`.example.com/token", "host"),
            (&long, "65,534"),
        ] {
            let error = Endpoint::parse("token_url", text).map(|_| ()).expect_err(text);
            assert_eq!(error.field(), "token_url");
            let message = error.to_string();
            assert!(message.contains(reason), "{text}: {message}");
            assert!(!message.contains("s3cret"), "{text}: {message}");
        }
    }

    #[test]
    fn what_goes_in_clear_stays_in_the_machine() {
        let check =
            |text, is_allowed| Endpoint::parse("token_url", text).unwrap().check_plaintext(is_allowed);
        for (text, is_allowed) in [
            ("https://auth.example.com/", false),
            ("http://127.0.0.1/", false),
            ("http://auth.example.com/", true),
        ] {
            check(text, is_allowed).unwrap();
        }
        let error = check("http://auth.example.com/", false).unwrap_err();
        assert_eq!(error.field(), "token_url");
        assert!(error.to_string().contains("`allow_http`"), "{error}");
    }

    #[test]
    fn what_is_shown_has_no_query_and_no_user() {
        let url = Url::parse("https://user:s3cret@auth.example.com:8443/token?key=s3cret#s3cret").unwrap();
        assert_eq!(shown(&url), "https://auth.example.com:8443/token");
    }
}
