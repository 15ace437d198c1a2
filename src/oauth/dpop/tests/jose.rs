//! Another implementation, `jose` for Node, verifies the proofs of many requests. Node's own URL parser gives the
//! expected URIs.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;

/// A URI that a client might send, sometimes an unusual one.
fn uri(random: &mut fastrand::Rng) -> String {
    const SEGMENTS: &[&str] = &[
        "a",
        "Orders",
        "%c3%b6",
        "%2F",
        ".",
        "..",
        "",
        "x=y;z",
        "a:b@c",
        "%2e%2E",
        "~!$&'()*+,-_",
        "%7e",
        "...",
    ];
    const HOSTS: &[&str] =
        &["api.example", "API.Example", "xn--bcher-kva.example", "[2001:DB8::1]", "127.0.0.1", "a.example."];
    const PORTS: &[&str] = &["", ":80", ":443", ":8443", ":"];
    let mut pick = |from: &[&'static str]| from[random.usize(..from.len())];
    let (scheme, host, port) = (pick(&["https", "http", "HTTPS"]), pick(HOSTS), pick(PORTS));
    let query = pick(&["", "?a=b/../c", "?"]);
    let path = (0..5).map(|_| pick(SEGMENTS)).collect::<Vec<_>>().join("/");
    let path = pick(&["", "/"]).to_owned() + &path;
    let path = if path.starts_with('/') { path } else { String::new() };
    format!("{scheme}://{host}{port}{path}{query}")
}

#[test]
fn jose_verifies_hundreds_of_proofs_and_node_names_the_same_uris() {
    const TIMES: usize = 400;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oidc");
    if !folder.exists() {
        return; // A published package has no such folder.
    }
    assert!(folder.join("node_modules").exists(), "run ./tests/run first: it installs `jose`");
    let mut random = fastrand::Rng::with_seed(7);
    let methods = [Method::GET, Method::POST, Method::PATCH, Method::from_bytes(b"M-SEARCH").unwrap()];
    let keys = [P256, ED25519, RSA].map(|pem| DpopKey::from_pem(pem).unwrap());
    let lines: Vec<Value> = (0..TIMES)
        .map(|number| {
            let (uri, method) = (uri(&mut random), &methods[number % methods.len()]);
            let token = keys[number % keys.len()].bind(Token::new(format!("token-{number}")));
            let parsed: Uri = uri.parse().unwrap();
            if number % 2 == 1 {
                token.learn(&parsed, &nonce(&format!("nonce-{number}")));
            }
            let mut headers = HeaderMap::new();
            token.apply(method, &parsed, &mut headers).unwrap();
            let nonce = (number % 2 == 1).then(|| format!("nonce-{number}"));
            json!({
                "proof": headers["dpop"].to_str().unwrap(), "method": method.as_str(), "uri": uri,
                "token": token.secret(), "nonce": nonce,
            })
        })
        .collect();
    let mut node = Command::new("node")
        .arg(folder.join("verify_dpop.mjs"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node runs");
    let mut stdin = node.stdin.take().unwrap();
    // In its own thread: otherwise the answers might fill their pipe.
    let text = lines.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()).unwrap());
    let output = node.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    let answers: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers.len(), TIMES);
    let thumbprints: Vec<_> = keys.iter().map(DpopKey::thumbprint).collect();
    for (number, (answer, line)) in answers.iter().zip(&lines).enumerate() {
        assert_eq!(answer["thumbprint"], thumbprints[number % keys.len()], "{line} {answer}");
    }
}
