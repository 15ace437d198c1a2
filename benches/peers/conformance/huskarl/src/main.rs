//! huskarl as a client of the conformance kit (`docs/conformance.md`), as in its example `cached_client` and its
//! guide "Making authenticated requests": a token cache, one more acquisition if the error advises it, and after a
//! 401 one more request, unless the challenge is about the scope.
//!
//! With `--invalidate` each 401 drops the token. The guide calls this a common policy for APIs without a proper challenge.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode, Uri};
use huskarl::authorizer::{HttpAuthorizer, dpop_resend_advised, parse_challenges};
use huskarl::cache::{
    GrantTokenSource, InMemoryRefreshTokenStore, InMemoryTokenCache, NoSource, Recovery, RefreshTokenStore,
    TokenError,
};
use huskarl::core::OAuthErrorCode;
use huskarl::core::client_auth::{Audience, ClientAuthentication, ClientSecret, JwtBearer};
use huskarl::core::dpop::DPoP;
use huskarl::core::secrets::{ProvidedSecret, Secret, SecretString};
use huskarl::core::server_metadata::AuthorizationServerMetadata;
use huskarl::grant::client_credentials::{ClientCredentialsGrant, ClientCredentialsGrantParameters};
use huskarl::token::RefreshToken;
use huskarl_crypto_native::asymmetric::signer::{
    AsymmetricAlgorithm, GenerateAlgorithm, Pkcs8Pem, PrivateKey,
};
use huskarl_reqwest::ReqwestClient;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let invalidates = std::env::args().any(|argument| argument == "--invalidate");
    let (told, mut lines) = mpsc::unbounded_channel::<Value>();
    tokio::spawn(async move {
        let mut output = tokio::io::stdout();
        while let Some(line) = lines.recv().await {
            if output.write_all(format!("{line}\n").as_bytes()).await.is_err()
                || output.flush().await.is_err()
            {
                return;
            }
        }
    });
    let mut input = BufReader::new(tokio::io::stdin()).lines();
    let mut stack = None;
    while let Some(line) = input.next_line().await? {
        let line: Value = serde_json::from_str(&line)?;
        if line["configure"].is_object() {
            stack = Some(Arc::new(Stack::new(&line["configure"], invalidates).await?));
            told.send(json!({ "ready": true }))?;
        } else if line["call"].is_object() {
            let (stack, told) = (stack.clone().ok_or("a call before the configuration")?, told.clone());
            tokio::spawn(async move {
                let id = &line["call"]["id"];
                let done = match stack.call(&line["call"]).await {
                    Ok(status) => json!({ "id": id, "status": status }),
                    // As the guide on errors wants it to be logged.
                    Err(error) => json!({ "id": id, "error": format!("{error:#}") }),
                };
                let _ = told.send(json!({ "done": done }));
            });
        } else {
            break;
        }
    }
    Ok(())
}

struct Stack {
    authorizer: HttpAuthorizer,
    requests: reqwest::Client,
    invalidates: bool,
}

impl Stack {
    async fn new(configure: &Value, invalidates: bool) -> Result<Self, Failure> {
        let text = |name: &str| configure[name].as_str().unwrap_or_default().to_owned();
        let requests = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_millis(configure["timeout_ms"].as_u64().unwrap_or(2000)))
            .build()?;
        let http_client = ReqwestClient::from(requests.clone());
        let metadata = AuthorizationServerMetadata::oidc_fetch()
            .issuer(text("issuer"))
            .http_client(&http_client)
            .call()
            .await?;
        let dpop = match configure["dpop"].as_bool() {
            Some(true) => {
                let key = PrivateKey::generate(GenerateAlgorithm::Es256, None)?;
                Some(DPoP::builder().signer(key).build())
            }
            _ => None,
        };
        let grant = if configure["auth"] == "private_key_jwt" {
            let pem = ProvidedSecret::new(SecretString::new(text("private_key")));
            let key = PrivateKey::from_secret(pem.mapped(Pkcs8Pem::new(AsymmetricAlgorithm::Es256))).await?;
            let auth = JwtBearer::builder().signer(key).audience(Audience::Issuer).build();
            grant(&metadata, text("client_id"), http_client, auth, dpop)
        } else {
            let secret = ProvidedSecret::new(SecretString::new(text("client_secret")));
            grant(&metadata, text("client_id"), http_client, ClientSecret::new(secret), dpop)
        };
        let store = InMemoryRefreshTokenStore::default();
        let authorizer = if configure["grant"] == "refresh_token" {
            store.set(&RefreshToken::new(SecretString::new(text("refresh_token")), None)).await?;
            let source =
                GrantTokenSource::builder().grant(grant).grant_parameters(NoSource).refresh_store(store);
            let cache = InMemoryTokenCache::builder().source(source.build()).build();
            HttpAuthorizer::builder().cache(cache).build()
        } else {
            let parameters = ClientCredentialsGrantParameters::builder().build();
            let source =
                GrantTokenSource::builder().grant(grant).grant_parameters(parameters).refresh_store(store);
            let cache = InMemoryTokenCache::builder().source(source.build()).build();
            HttpAuthorizer::builder().cache(cache).build()
        };
        Ok(Self { authorizer, requests, invalidates })
    }

    async fn call(&self, call: &Value) -> Result<u16, Failure> {
        let method: Method = call["method"].as_str().unwrap_or("GET").parse()?;
        let url = call["url"].as_str().unwrap_or_default();
        let uri: Uri = url.parse()?;
        let body = call["body"].as_str();
        let mut answer = self.send(&method, &uri, url, body).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            let is_about_scope = parse_challenges(answer.headers())
                .iter()
                .any(|challenge| challenge.error() == Some(OAuthErrorCode::InsufficientScope));
            let is_about_nonce = dpop_resend_advised(answer.status(), answer.headers());
            if !is_about_scope {
                if self.invalidates && !is_about_nonce {
                    self.authorizer.invalidate();
                }
                answer = self.send(&method, &uri, url, body).await?;
            }
        }
        Ok(answer.status().as_u16())
    }

    async fn send(
        &self,
        method: &Method,
        uri: &Uri,
        url: &str,
        body: Option<&str>,
    ) -> Result<reqwest::Response, Failure> {
        let headers = self.headers(method, uri).await?;
        let request = self.requests.request(method.clone(), url).headers(headers);
        let request = body.into_iter().fold(request, |request, body| request.body(body.to_owned()));
        let answer = request.send().await?;
        self.authorizer.process_response(uri, answer.headers());
        Ok(answer)
    }

    /// The example's policy: one more acquisition where it is advised, after the advised time.
    async fn headers(&self, method: &Method, uri: &Uri) -> Result<HeaderMap, TokenError> {
        match self.authorizer.get_headers(method, uri).await {
            Ok(headers) => Ok(headers),
            Err(error) => match error.recovery() {
                Recovery::Retry { after } => {
                    tokio::time::sleep(after.unwrap_or(Duration::from_secs(1))).await;
                    self.authorizer.get_headers(method, uri).await
                }
                _ => Err(error),
            },
        }
    }
}

fn grant(
    metadata: &AuthorizationServerMetadata,
    client_id: String,
    http_client: ReqwestClient,
    auth: impl ClientAuthentication + 'static,
    dpop: Option<DPoP>,
) -> ClientCredentialsGrant {
    let grant = ClientCredentialsGrant::builder_from_metadata(metadata)
        .client_id(client_id)
        .client_auth(auth)
        .http_client(http_client);
    match dpop {
        Some(dpop) => grant.dpop(dpop).build(),
        None => grant.build(),
    }
}
