//! The server's explanation of a refused discovery.

use super::*;

#[tokio::test]
async fn a_refused_discovery_has_the_explanation_of_the_server() {
    const HEADER: &str = "s3cret-default";
    for status in [400, 403, 429, 503] {
        for (said, is_shown) in
            [("AADSTS90002: Tenant 'x' not found", true), ("no key s3cret-default", false)]
        {
            let server = FakeAuthServer::start().await.unwrap();
            let answer = json!({ "error": "invalid_tenant", "error_description": said });
            for _ in 0..2 {
                server.then(Reply::json(status, answer.to_string()));
            }
            let client = Client::with_issuer(server.base_url(), "app").secret("other").http(|http| {
                let value = http::HeaderValue::from_static(HEADER);
                http.default_headers([(http::HeaderName::from_static("x-key"), value)].into_iter().collect())
            });
            let source = client.build().unwrap().client_credentials().build().unwrap();
            let error = fetch(&source).await.unwrap_err().to_string();
            assert_eq!(error.contains(said), is_shown, "{status}: {error}");
            assert!(
                error.contains("discovery of the issuer") && !error.contains(HEADER),
                "{status}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn an_explanation_is_found_under_each_of_its_usual_names() {
    let server = FakeAuthServer::start().await.unwrap();
    let source = client(&server).client_credentials().build().unwrap();
    for name in ["Message", "description", "errorDescription"] {
        server.then(Reply::json(403, json!({ name: "no such tenant" }).to_string()));
        let error = fetch(&source).await.unwrap_err().to_string();
        assert!(error.contains(": no such tenant"), "{name}: {error}");
    }
}
