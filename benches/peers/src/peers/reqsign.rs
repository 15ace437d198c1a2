//! reqsign's signer, with a provider and a signature that is only a header.

use std::cell::Cell;
use std::fmt;

use http::header::AUTHORIZATION;
use http::request::Parts;
use reqsign_core::time::Timestamp;
use reqsign_core::{Context, Error, ProvideCredential, SignRequest, Signer, SigningCredential};

use crate::peer::{Failure, Peer};
use crate::source::{Source, number};

pub struct Reqsign(Signer<Bearer>);

#[derive(Clone)]
pub struct Bearer {
    header: http::HeaderValue,
    end: Timestamp,
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer")
    }
}

impl SigningCredential for Bearer {
    fn is_valid(&self) -> bool {
        self.is_valid_at(Timestamp::now())
    }

    fn is_valid_at(&self, at: Timestamp) -> bool {
        self.end > at
    }
}

#[derive(Debug)]
struct Provider(Source);

impl ProvideCredential for Provider {
    type Credential = Bearer;

    async fn provide_credential(&self, _: &Context) -> reqsign_core::Result<Option<Bearer>> {
        let answer = self.0.fetch().await.map_err(|error| Error::unexpected(error.to_string()))?;
        let header = format!("Bearer {}", answer.secret).parse().expect("digits");
        Ok(Some(Bearer { header, end: Timestamp::now() + answer.lifetime }))
    }
}

#[derive(Debug)]
struct Attach;

impl SignRequest for Attach {
    type Credential = Bearer;

    async fn sign_request(
        &self,
        _: &Context,
        request: &mut Parts,
        bearer: Option<&Bearer>,
        _: Option<std::time::Duration>,
    ) -> reqsign_core::Result<()> {
        if let Some(bearer) = bearer {
            request.headers.insert(AUTHORIZATION, bearer.header.clone());
        }
        Ok(())
    }
}

thread_local! {
    /// Making a request is the application's cost, not the signer's.
    static REQUEST: Cell<Option<Parts>> = const { Cell::new(None) };
}

fn request() -> Parts {
    REQUEST.take().unwrap_or_else(|| {
        http::Request::get("https://api.example/").body(()).expect("a sound request").into_parts().0
    })
}

impl Peer for Reqsign {
    const NAME: &str = "reqsign-core 3.3.2, Signer";
    const NOTE: &str = "writes the header into a copy of the request's head";
    type Token = http::HeaderValue;

    async fn new(source: Source) -> Result<Self, Failure> {
        Ok(Self(Signer::new(Context::new(), Provider(source), Attach)))
    }

    async fn get(&self) -> Result<Self::Token, Failure> {
        let mut parts = request();
        self.0.sign(&mut parts, None).await.map_err(|error| error.to_string())?;
        let header = parts.headers.get(AUTHORIZATION).cloned().ok_or("not signed")?;
        REQUEST.set(Some(parts));
        Ok(header)
    }

    fn number(token: &Self::Token) -> u64 {
        token.to_str().map(number).unwrap_or(0)
    }
}
