//! The source for each provider, with its settings file.
//!
//! Your own service that calls an API for itself uses *client credentials*. A program in a cloud or a cluster uses
//! the identity of its machine, and needs no secret. A program that acts for a user who has logged in once uses a
//! refresh token.
//!
//! | provider | source | `kind` in a settings file |
//! |---|---|---|
//! | Auth0, Okta, Entra, Keycloak | [`ClientCredentials`](crate::source::ClientCredentials) | `client_credentials` |
//! | Google, on Google's machines | [`Metadata::gcp`](crate::source::Metadata::gcp) | `gcp_metadata` |
//! | Google, elsewhere, with a service account's key | [`Client::jwt_bearer`](crate::oauth::Client::jwt_bearer) | `jwt_bearer` with a `signed_jwt`, see below |
//! | Azure, on its machines | [`Metadata::azure_imds`](crate::source::Metadata::azure_imds) | `azure_imds` |
//! | Kubernetes | [`FileToken`](crate::source::FileToken), or its token as a client's assertion | `file` |
//! | GitHub, as an app | [`GithubApp`](crate::source::GithubApp) | `github_app` |
//! | Vault | [`Vault`](crate::source::Vault), or [`FileToken`](crate::source::FileToken) beside its agent | `vault`, `file` |
//! | AWS, for an API elsewhere | [`Metadata::aws_web_identity`](crate::source::Metadata::aws_web_identity) | `aws_web_identity` |
//! | AWS, for the API of an EKS cluster | [`ExecCredential`](crate::source::ExecCredential) with `aws eks get-token` | `exec` |
//! | AWS, for AWS' own services | their requests are signed with keys (SigV4), which are no bearer tokens: use AWS' SDK | - |
//! | any, for a user who has logged in | [`RefreshToken`](crate::source::RefreshToken) | `refresh_token` |
//!
//! # One table chooses the source
//!
//! [`SourceSettings`](crate::source::SourceSettings) reads any source from one table. Therefore an operator can
//! change the provider without a build. Unknown keys are errors. A secret is a value, `{ file = ".." }` or
//! `{ env = ".." }`.
//!
//! ```
//! use tokenflight::TokenActor;
//! use tokenflight::source::SourceSettings;
//!
//! # actix_rt::System::new().block_on(async {
//! # std::fs::write(std::env::temp_dir().join("guide-secret"), "s3cret")?;
//! # let secret = std::env::temp_dir().join("guide-secret");
//! # let secret = secret.to_str().unwrap();
//! // Auth0: it wants the API's `audience`.
//! let auth0 = format!(r#"{{ "kind": "client_credentials", "token_url": "https://TENANT.eu.auth0.com/oauth/token",
//!     "client_id": "id", "client_secret": {{ "file": "{secret}" }},
//!     "audience": ["https://api.example.com"] }}"#);
//! // Okta: an authorization server of your own (`default`), and at least one scope.
//! let okta = format!(r#"{{ "kind": "client_credentials", "token_url": "https://ORG.okta.com/oauth2/default/v1/token",
//!     "client_id": "id", "client_secret": {{ "file": "{secret}" }}, "scope": "orders.read" }}"#);
//! // Entra: the scope is the API's identifier with `/.default`.
//! let entra = format!(r#"{{ "kind": "client_credentials", "client_id": "id", "client_secret": {{ "file": "{secret}" }},
//!     "token_url": "https://login.microsoftonline.com/TENANT/oauth2/v2.0/token",
//!     "scope": "api://orders/.default" }}"#);
//! // Keycloak: the issuer is enough; the token URL is discovered.
//! let keycloak = format!(r#"{{ "kind": "client_credentials", "issuer": "https://sso.example.com/realms/shop",
//!     "client_id": "id", "client_secret": {{ "file": "{secret}" }} }}"#);
//! // Google and Azure, on their own machines: no secret at all.
//! let google = r#"{ "kind": "gcp_metadata", "scope": "https://www.googleapis.com/auth/cloud-platform" }"#;
//! let azure = r#"{ "kind": "azure_imds", "resource": "https://vault.azure.net" }"#;
//! // Kubernetes: the projected token itself. It is read again, since Kubernetes replaces it.
//! let kubernetes = r#"{ "kind": "file", "path": "/var/run/secrets/tokens/api" }"#;
//! // A login program of the cloud.
//! let eks = r#"{ "kind": "exec", "command": "aws", "args": ["eks", "get-token", "--cluster-name", "blue"] }"#;
//! // AWS: a JWT for the identity of the instance, the container or the pod.
//! let aws = r#"{ "kind": "aws_web_identity", "audience": "https://api.example.com", "region": "eu-central-1", "lifetime": "15m" }"#;
//! // A user's login. The refresh token rotates, and is kept in a file.
//! let user = r#"{ "kind": "refresh_token", "token_url": "https://auth.example.com/token", "client_id": "id",
//!     "auth_method": "none", "vault": { "kind": "file", "path": "/var/lib/orders/login" } }"#;
//! // Vault, by AppRole. The lease is renewed, and there is a new login when it cannot be.
//! let vault = r#"{ "kind": "vault", "url": "https://vault.example.com:8200",
//!     "role_id": "role", "secret_id": "s3cret" }"#;
//!
//! for settings in [&auth0, &okta, &entra, &keycloak, google, azure, kubernetes, eks, aws, user, vault] {
//!     let source = serde_json::from_str::<SourceSettings>(settings)?.build()?;
//!     let tokens = TokenActor::builder(source).name("orders").start()?;
//!     assert!(tokens.current().is_none()); // nobody has asked, so nothing was called
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! Vault requires its token in `X-Vault-Token`, not in `Authorization`. Put [`Token::secret`](crate::Token::secret)
//! there yourself. Vault answers 403 to an unknown token, and no middleware reports a 403. Call
//! [`replace`](crate::TokenHandle::replace) if you know that the token was rejected.
//!
//! # AWS: a token for an API elsewhere
//!
//! The keys of an instance, a container or a pod sign requests to AWS, and no API outside of AWS accepts them. The
//! token service of the region gives a JWT for these keys (`GetWebIdentityToken`), which an API verifies by OpenID
//! Connect. Turn on outbound identity federation in the account, and allow `sts:GetWebIdentityToken` to the role.
//! If an authorization server requires the JWT as the client's proof, configure it as a link:
//! `"client_assertion": { "kind": "aws_web_identity", .. }`.
//!
//! # A private key instead of a secret
//!
//! A [`Preset`](crate::oauth::Preset) has each provider's requirements on the assertion: audience, algorithm, type.
//! The key stays in its file, and is read again when the file changes.
//!
//! ```no_run
//! use tokenflight::oauth::{Client, Preset};
//!
//! let client = Client::builder("https://TENANT.eu.auth0.com/", "id")      // the issuer
//!     .preset(Preset::Auth0)                                              // also Entra, Okta, Keycloak, Google
//!     .private_key_file("/run/secrets/auth0.pem")
//!     .build()?;
//! let source = client.client_credentials().audience("https://api.example.com").build()?;
//! # let _ = source;
//! # Ok::<(), tokenflight::BuildError>(())
//! ```
//!
//! # Google: a service account's key
//!
//! The key is the `private_key` in the account's JSON file, in a file of its own. A file may be replaced while the
//! program runs.
//!
//! ```
//! use tokenflight::source::SourceSettings;
//!
//! let settings = r#"{
//!     "kind": "jwt_bearer", "token_url": "https://oauth2.googleapis.com/token", "client_id": "robot", "auth_method": "none",
//!     "assertion": {
//!         "kind": "signed_jwt", "private_key_file": "/run/secrets/service-account.pem",
//!         "issuer": "robot@project.iam.gserviceaccount.com", "audience": "https://oauth2.googleapis.com/token",
//!         "claims": { "scope": "https://www.googleapis.com/auth/cloud-platform" }
//!     }
//! }"#;
//! let settings: SourceSettings = serde_json::from_str(settings)?;
//! # let _ = settings;
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! In code:
//!
//! ```no_run
//! use tokenflight::oauth::Client;
//! use tokenflight::source::SignedJwt;
//!
//! let url = "https://oauth2.googleapis.com/token";
//! let file = "/run/secrets/service-account.pem";
//! let jwt = SignedJwt::with_key_file(file, "robot@project.iam.gserviceaccount.com", url)
//!     .claim("scope", "https://www.googleapis.com/auth/cloud-platform")
//!     .build()?;
//! let source = Client::with_token_url(url, "robot").public().build()?.jwt_bearer(jwt).build()?;
//! # let _ = source;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # GitHub: an installation of an app
//!
//! The app's key signs a JWT for each request, and GitHub gives an installation token of an hour for it. GitHub's
//! replicas know a new token after 1 to 5 s. `settle` keeps the older token in use for that time.
//!
//! ```no_run
//! use std::time::Duration;
//! use tokenflight::source::GithubApp;
//! use tokenflight::{RefreshPolicy, TokenActor};
//!
//! # actix_rt::System::new().block_on(async {
//! let source = GithubApp::builder("APP-ID", 12_345_678) // the id of the installation
//!     .private_key_file("/run/secrets/app.pem")
//!     .permission("contents", "read")
//!     .build()?;
//! let policy = RefreshPolicy::default().settle(Duration::from_secs(5));
//! let tokens = TokenActor::builder(source).policy(policy).name("github").start()?;
//! # let _ = tokens;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # Kubernetes: a projected token as the client's proof
//!
//! Many authorization servers accept the service account's token as the client's assertion (workload identity).
//! Then no secret is stored anywhere.
//!
//! ```no_run
//! use tokenflight::oauth::Client;
//!
//! let client = Client::builder("https://login.microsoftonline.com/TENANT/v2.0", "id")
//!     .assertion_file("/var/run/secrets/azure/tokens/azure-identity-token")
//!     .build()?;
//! let source = client.client_credentials().scope("https://vault.azure.net/.default").build()?;
//! # let _ = source;
//! # Ok::<(), tokenflight::BuildError>(())
//! ```
