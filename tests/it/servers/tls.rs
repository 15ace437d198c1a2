//! Mutual TLS (RFC 8705): what a client needs for it.

use serde_json::Value;

use super::{Provider, form, read, text};

/// A certificate and its private key, both as PEM.
pub(crate) struct Certificate {
    pub(crate) cert_pem: String,
    pub(crate) key_pem: String,
}

/// What a test needs for mTLS.
pub(crate) struct Tls {
    /// The authority that has signed the server's certificate.
    pub(crate) ca_pem: String,
    /// The token endpoint behind mTLS.
    pub(crate) token_endpoint: String,
    clients: Value,
}

impl Tls {
    /// The certificate of `tls-pki` or `tls-self-signed`.
    pub(crate) fn client(&self, id: &str) -> Certificate {
        certificate(&self.clients[id])
    }

    /// The next certificate of the same client. The server accepts both at any time.
    pub(crate) fn rotated(&self, id: &str) -> Certificate {
        certificate(&self.clients[id]["rotated"])
    }
}

fn certificate(of: &Value) -> Certificate {
    Certificate { cert_pem: text(&of["cert_pem"]), key_pem: text(&of["key_pem"]) }
}

impl Provider {
    /// The server's authority, its token endpoint behind mTLS, and the certificates of its clients.
    pub(crate) async fn tls(&self) -> Tls {
        let tls = self.at("/tls").await;
        Tls {
            ca_pem: text(&tls["ca_pem"]),
            token_endpoint: text(&tls["token_endpoint"]),
            clients: tls["clients"].clone(),
        }
    }
}

#[cfg(feature = "rustls")]
fn client(tls: &Tls, certificate: &Certificate) -> reqwest::Client {
    let pem = certificate.cert_pem.clone() + &certificate.key_pem;
    let identity = reqwest::Identity::from_pem(pem.as_bytes()).unwrap();
    client_with(tls, identity, reqwest::Client::builder().tls_backend_rustls())
}

#[cfg(not(feature = "rustls"))]
fn client(tls: &Tls, certificate: &Certificate) -> reqwest::Client {
    let (cert, key) = (certificate.cert_pem.as_bytes(), certificate.key_pem.as_bytes());
    let identity = reqwest::Identity::from_pkcs8_pem(cert, key).unwrap();
    client_with(tls, identity, reqwest::Client::builder())
}

fn client_with(tls: &Tls, identity: reqwest::Identity, builder: reqwest::ClientBuilder) -> reqwest::Client {
    let authority = reqwest::Certificate::from_pem(tls.ca_pem.as_bytes()).unwrap();
    builder.tls_certs_only([authority]).identity(identity).build().unwrap()
}

/// Both certificates of a client are good, and a token is bound to the one it was asked for with.
#[actix::test]
async fn a_client_may_change_its_certificate() {
    let provider = Provider::start();
    let tls = provider.tls().await;
    let alias = &provider.discovery().await["mtls_endpoint_aliases"]["token_endpoint"];
    assert_eq!(alias, tls.token_endpoint.as_str());
    for (id, other) in [("tls-pki", "tls-self-signed"), ("tls-self-signed", "tls-pki")] {
        let fields = [("grant_type", "client_credentials"), ("client_id", id)];
        let mut bound_to = Vec::new();
        for certificate in [tls.client(id), tls.rotated(id)] {
            let answer = read(form(&client(&tls, &certificate), &tls.token_endpoint, &fields)).await;
            let introspected = provider.introspect(&text(&answer["access_token"])).await;
            bound_to.push(text(&introspected["cnf"]["x5t#S256"]));
        }
        assert_ne!(bound_to[0], bound_to[1]);
        let foreign = form(&client(&tls, &tls.client(other)), &tls.token_endpoint, &fields);
        assert_eq!(foreign.send().await.unwrap().status(), 401, "{id} with the certificate of {other}");
    }
}
