//! reqwest-middleware: [`BearerAuth`] in a chain.
//!
//! It may come before or after a middleware that sends a request again. After is better: then each try gets the
//! current token.

use http::Extensions;
use reqwest::{Request, Response};
use reqwest_middleware::{Error, Middleware, Next, Result};

use super::{Execute, send};
use crate::middleware::{BearerAuth, NoReplay, SendError};

/// For `reqwest_middleware::ClientBuilder::with`. Add it after the middleware that retries, so that each try gets
/// the current token, and after each middleware that changes the URL:
/// [why](crate::middleware::reqwest#other-middlewares). The errors of a chain hold a
/// [`TokenError`](crate::TokenError), a [`PresentError`](crate::PresentError) or a
/// [`StepUp`](crate::middleware::StepUp). Find them by `downcast_ref`.
#[async_trait::async_trait]
impl Middleware for BearerAuth {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let may_repeat = extensions.get::<NoReplay>().is_none();
        send(self, request, may_repeat, &mut Rest { next, extensions }).await.map_err(|error| match error {
            SendError::Client(error) => error,
            SendError::Token(error) => Error::middleware(error),
            SendError::Present(error) => Error::middleware(error),
            SendError::StepUp(step_up) => Error::middleware(step_up),
            SendError::Redirected => Error::middleware(SendError::<std::io::Error>::Redirected),
        })
    }
}

/// The rest of the chain after this middleware.
struct Rest<'a, 'b> {
    next: Next<'a>,
    extensions: &'b mut Extensions,
}

impl Execute for Rest<'_, '_> {
    type Error = Error;

    async fn execute(&mut self, request: Request) -> Result<Response> {
        self.next.clone().run(request, self.extensions).await
    }
}
