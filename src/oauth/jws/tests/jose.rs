//! Another implementation, `jose` for Node, verifies this crate's signatures.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::*;

#[test]
fn jose_verifies_each_algorithm_and_computes_the_same_thumbprint() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oidc");
    if !folder.exists() {
        return; // A published package has no such folder.
    }
    assert!(folder.join("node_modules").exists(), "run ./tests/run first: it installs `jose`");

    let (mut lines, mut expected) = (Vec::new(), Vec::new());
    for (_, key) in all_keys() {
        for hint in [KeyHint::Name, KeyHint::Jwk] {
            let (jwk, thumbprint) = (key.public_jwk(), key.thumbprint());
            let header = Header { typ: Some("client-authentication+jwt"), key: hint };
            let signer = SigningKey::Private(key.clone().with_kid("2026-11"));
            let jws = signer.sign(header, &claims()).unwrap();
            lines.push(json!({ "jwk": jwk, "jws": *jws }));
            expected.push((key.algorithm(), thumbprint));
        }
    }
    let secret = "0123456789abcdef0123456789abcdef";
    let signer = SigningKey::Secret(HmacKey::new(Secret::new(secret)).unwrap());
    let jws = signer.sign(Header { typ: Some("client-authentication+jwt"), ..Header::default() }, &claims());
    let jwk = json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode(secret) });
    lines.push(json!({ "jwk": jwk, "jws": *jws.unwrap() }));

    let answers = ask(&folder, &lines);
    assert_eq!(answers.len(), expected.len() + 1, "{answers:?}");
    for (answer, (algorithm, thumbprint)) in answers.iter().zip(&expected) {
        assert_eq!(answer["header"]["alg"], algorithm.as_str(), "{answer}");
        assert_eq!(answer["thumbprint"], thumbprint.as_str(), "{answer}");
    }
    assert_eq!(answers[expected.len()]["header"]["alg"], "HS256");
    for answer in &answers {
        assert_eq!(answer["header"]["typ"], "client-authentication+jwt", "{answer}");
        assert_eq!(answer["claims"], claims(), "{answer}");
    }

    let key = key(P256);
    let forged = with_other_claims(&sign(&key, Header::default()));
    let line = json!({ "jwk": key.public_jwk(), "jws": forged });
    let error = ask(&folder, &[line])[0]["error"].to_string();
    assert!(error.contains("signature verification failed"), "{error}");
}

fn ask(folder: &Path, lines: &[Value]) -> Vec<Value> {
    let mut node = Command::new("node")
        .arg(folder.join("verify.mjs"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node runs");
    let mut stdin = node.stdin.take().unwrap();
    for line in lines {
        // The answers wait in a pipe meanwhile. It holds 64 KiB, which is more than all answers together.
        writeln!(stdin, "{line}").unwrap();
    }
    drop(stdin); // This closes Node's input, which ends Node.
    let output = node.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
