//! A gRPC call by tonic whose token was revoked: the token is replaced, and the call is made again.
//!
//! `cargo run --example tonic_client --features tower`. Server and client run in this process, on loopback.

use std::{convert::Infallible, error::Error, time::Duration};

use http::{Request, Response};
use tokenflight::middleware::tower::BearerAuth;
use tokenflight::{RefreshPolicy, Token, TokenActor, source_fn};
use tonic::transport::{Channel, Server, server::TcpIncoming};
use tonic::{body::Body, client::Grpc};
use tonic_prost::ProstCodec;

/// A service without messages. It knows the second token only.
async fn serve(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    println!("the API was shown {:?}", request.headers()["authorization"].to_str());
    let status = if request.headers()["authorization"] == "Bearer new" { "0" } else { "16" };
    let answer = Response::builder().header("content-type", "application/grpc").header("grpc-status", status);
    Ok(answer.body(Body::empty()).unwrap_or_default())
}

#[actix::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", listener.local_addr()?);
    let service = tower::service_fn(serve);
    actix::spawn(Server::builder().serve_with_incoming(service, TcpIncoming::from(listener)));
    let source = source_fn(|cx| async move { Ok(Token::new(cx.previous.map_or("old", |_| "new"))) });
    let policy = RefreshPolicy::default().settle(Duration::ZERO);
    let tokens = TokenActor::builder(source).policy(policy).start()?;
    let auth = BearerAuth::builder(&tokens).relative_to(&origin).build()?;
    let stack = tower::ServiceBuilder::new().layer(auth);
    let stack = stack.map_request(|call: Request<_>| call.map(Body::new));
    let mut client = Grpc::new(stack.service(Channel::from_shared(origin)?.connect().await?));
    client.ready().await.map_err(|error| error.to_string())?;
    let path = http::uri::PathAndQuery::from_static("/orders.Orders/List");
    let call = client.server_streaming(tonic::Request::new(()), path, ProstCodec::<(), ()>::default());
    println!("orders: {:?}", call.await?.into_inner().message().await?);
    Ok(())
}
