//! A header whose value is the token of another source: a link of a chain.

use http::HeaderName;
use zeroize::Zeroizing;

use crate::error::SourceError;
use crate::secret::header_of;
use crate::source::{BoxSource, FetchContext};
use crate::transport::Request;

/// The source of the token, and its header.
pub(super) struct Link {
    pub(super) name: HeaderName,
    pub(super) shown: Shown,
    pub(super) source: BoxSource,
}

/// The form of a token in a header.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    WithScheme,
    Bare,
}

impl Link {
    /// Gets the source's token, and puts it on the request.
    pub(super) async fn add_to(&self, request: &mut Request, cx: &FetchContext) -> Result<(), SourceError> {
        let link = format!("the token for the header {:?}", self.name);
        let failed = |error: SourceError| error.within(&link);
        let token = self.source.token_for(&link, cx).await?;
        if token.is_bound() {
            let what = "it is bound to a key, and this request has no proof of it";
            return Err(failed(SourceError::terminal(what)));
        }
        if let Some(flaw) = token.flaw() {
            return Err(failed(SourceError::transient(format!("it {flaw}"))));
        }
        request.redactor.hide(Zeroizing::new(token.secret().to_owned()));
        let value = match self.shown {
            Shown::WithScheme => Some(token.authorization()),
            Shown::Bare => header_of(token.secret()).ok(),
        };
        let value = value.ok_or_else(|| failed(SourceError::transient("no header can hold it")))?;
        request.headers.insert(self.name.clone(), value);
        Ok(())
    }

    pub(super) fn identify(&self, part: &mut dyn FnMut(&str, &str)) {
        let name = match self.shown {
            Shown::WithScheme => "authorization".to_owned(),
            Shown::Bare => format!("header_token.{}", self.name),
        };
        part(&name, "");
        self.source.identify_as(&name, part);
    }
}
