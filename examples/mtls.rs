//! A client that proves its identity by a certificate (RFC 8705), which is replaced on the disc while the service
//! runs.
//!
//! `cargo run --example mtls`
//!
//! The authorization server runs in this process, on loopback, with TLS. It makes its own certificate and the
//! client's. Each token contains the certificate that the server has received.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokenflight::oauth::{Certificate, Client};
use tokenflight::{RefreshPolicy, TokenActor};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

type Authority = CertifiedIssuer<'static, KeyPair>;

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("tokenflight-mtls-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let (certificate, key) = (folder.join("client.pem"), folder.join("client.key"));

    let authority = authority()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("https://localhost:{}/token", listener.local_addr()?.port());
    actix_web::rt::spawn(serve(listener, acceptor(&authority)?));
    write_pair(&authority, &certificate, &key)?;

    // The client: this is all that a user writes. (The root certificate is only for a server with one of its own.)
    let root = reqwest::Certificate::from_pem(authority.pem().as_bytes())?;
    let client = Client::builder(url, "orders")
        .certificate(Certificate::from_files(&certificate, &key))
        .http(move |http| http.tls_certs_only([root.clone()]))
        .build()?;
    // A token need not settle here: this server knows its own at once.
    let policy = RefreshPolicy::default().settle(Duration::ZERO);
    let tokens = TokenActor::builder(client.client_credentials().build()?).policy(policy).start()?;

    println!("the first certificate: {}", tokens.get().await?.secret());
    write_pair(&authority, &certificate, &key)?;
    println!("the second certificate: {}", tokens.refresh().await?.secret());

    tokens.shutdown().await;
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

fn authority() -> Result<Authority, rcgen::Error> {
    let mut params = CertificateParams::new([])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

/// Another certificate with another key.
fn write_pair(authority: &Authority, certificate: &Path, key: &Path) -> Result<(), Box<dyn Error>> {
    let own = KeyPair::generate()?;
    let signed = CertificateParams::new(["orders.example".to_owned()])?.signed_by(&own, authority)?;
    std::fs::write(certificate, signed.pem())?;
    std::fs::write(key, own.serialize_pem())?;
    Ok(())
}

/// TLS that asks for a certificate of this authority.
fn acceptor(authority: &Authority) -> Result<TlsAcceptor, Box<dyn Error>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let own = KeyPair::generate()?;
    let signed = CertificateParams::new(["localhost".to_owned()])?.signed_by(&own, authority)?;
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone())?;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider)).build()?;
    let key = PrivateKeyDer::try_from(own.serialize_der())?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![CertificateDer::from(signed.der().to_vec())], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// One request a connection.
async fn serve(listener: TcpListener, acceptor: TlsAcceptor) {
    while let Ok((stream, _)) = listener.accept().await {
        if let Err(error) = answer(stream, &acceptor).await {
            eprintln!("the server: {error}");
        }
    }
}

async fn answer(stream: TcpStream, acceptor: &TlsAcceptor) -> std::io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut request = Vec::new();
    while !request.ends_with(b"grant_type=client_credentials&client_id=orders") {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let seen = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    // The serial number begins at this byte of a certificate that rcgen makes.
    let serial: Vec<u8> = seen.iter().flat_map(|der| der.iter().skip(15).take(4)).copied().collect();
    let serial = u32::from_be_bytes(serial.try_into().unwrap_or_default());
    let body = format!(
        r#"{{"access_token":"for-certificate-{serial:08x}","token_type":"Bearer","expires_in":3600}}"#
    );
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await?;
    stream.shutdown().await
}
