use http::{HeaderMap, HeaderValue};

use super::*;

fn headers(lines: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(WWW_AUTHENTICATE, HeaderValue::from_bytes(line.as_bytes()).unwrap());
    }
    headers
}

fn parse(lines: &[&str]) -> Vec<Challenge> {
    challenges(&headers(lines))
}

fn written(lines: &[&str]) -> String {
    write(&parse(lines))
}

#[test]
fn all_lines_and_all_challenges_are_read() {
    for (lines, expected) in [
        (&["Bearer"][..], "bearer"),
        (&["Bearer realm=api"], r#"bearer realm="api""#),
        (
            &[r#"Basic realm="a, b", BEARER Realm="c" , Error=invalid_token"#],
            r#"basic realm="a, b", bearer realm="c", error="invalid_token""#,
        ),
        (&["Basic", "Bearer"], "basic, bearer"),
        (&["Negotiate YII=, Bearer"], "negotiate YII=, bearer"),
        (&["Negotiate a==, error=x"], r#"negotiate a==, error="x""#),
        (&[", , Bearer , , a=b ,,"], r#"bearer a="b""#),
        (&[r#"Bearer a = "b" ,c= d"#], r#"bearer a="b", c="d""#),
        (&[r#"Bearer a="\"q\\", b="""#], r#"bearer a="\"q\\", b="""#),
        (&["Bearer\ta=b"], r#"bearer a="b""#),
    ] {
        assert_eq!(written(lines), expected, "{lines:?}");
    }
}

#[test]
fn what_is_malformed_is_skipped_and_the_rest_is_read() {
    for (line, expected) in [
        // No commas.
        (r#"Bearer realm="a" error="invalid_token""#, r#"bearer realm="a", error="invalid_token""#),
        // No quotes.
        ("Bearer uri=https://a.example/x?y, error=z", r#"bearer uri="https://a.example/x?y", error="z""#),
        ("Bearer text=The token has expired, error=z", r#"bearer text="The", error="z""#),
        ("Bearer text=it=bad because, error=z", r#"bearer text="it=bad", error="z""#),
        // Quotes that never end.
        (r#"Bearer a="b, error=z"#, r#"bearer error="z""#),
        (r#"Bearer a=b"c, error=z"#, r#"bearer error="z""#),
        (r#"Bearer a="b\"#, "bearer"),
        // A parameter that belongs to nothing, and bytes that begin nothing.
        ("a=b, Bearer error=z", r#"bearer error="z""#),
        ("@, Bearer error=z", r#"bearer error="z""#),
        ("Bearer @, error=z", r#"bearer error="z""#),
        ("Bearer =, error=z", r#"bearer error="z""#),
        (r#""Bearer", Bearer"#, "bearer"),
    ] {
        assert_eq!(written(&[line]), expected, "{line}");
    }
}

#[test]
fn everything_is_bounded() {
    let many = vec!["Bearer"; 100];
    assert_eq!(parse(&many).len(), LINES);
    assert_eq!(parse(&[&many.join(", ")]).len(), CHALLENGES);
    let params = format!("Bearer {}", vec!["a=b"; 100].join(", "));
    assert_eq!(parse(&[&params])[0].params.len(), PARAMS);
    let long = format!("Bearer a=\"{}\", error=invalid_token", "x".repeat(BYTES));
    assert_eq!(parse(&[&long, "Bearer error=invalid_token"])[0].param("error"), None);
}

fn verdict(line: &str) -> Verdict {
    Verdict::of(&headers(&[line]), "Bearer")
}

#[test]
fn each_error_has_its_verdict() {
    let claims = r#"{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}"#;
    let encoded = "eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZSwidmFsdWUiOiIxNjA0MTA2NjUxIn19fQ";
    let step_up = |acr: Option<&str>, age: Option<u64>| {
        Verdict::StepUp(StepUp {
            acr_values: acr.map(ToOwned::to_owned),
            max_age: age.map(std::time::Duration::from_secs),
        })
    };
    for (line, expected) in [
        ("Bearer", Verdict::Unsaid),
        ("bearer error=INVALID_TOKEN", Verdict::Unsaid),
        ("Bearer error=expired", Verdict::Unsaid),
        ("bEARER eRROR=invalid_token", Verdict::InvalidToken),
        ("Basic, Bearer error=invalid_token", Verdict::InvalidToken),
        ("Bearer, Bearer error=invalid_token", Verdict::InvalidToken),
        ("DPoP error=use_dpop_nonce", Verdict::WantsNonce),
        ("DPoP error=use_dpop_nonce, Bearer error=invalid_token", Verdict::InvalidToken),
        ("DPoP error=invalid_dpop_proof", Verdict::NotOurs),
        ("Bearer error=insufficient_scope", Verdict::NotOurs),
        ("Bearer error=invalid_request", Verdict::NotOurs),
        ("Basic realm=a", Verdict::NotOurs),
        ("Negotiate", Verdict::NotOurs),
        ("Digest realm=a, nonce=b", Verdict::NotOurs),
        // Other names of the same thing.
        (r#"OAuth realm="x", error="invalid_token""#, Verdict::InvalidToken),
        ("OAuth realm='TwitchTV', error='invalid_token'", Verdict::Unsaid),
        ("Token", Verdict::Unsaid),
        ("JWT realm=api", Verdict::Unsaid),
        ("Basic realm=a, OAuth2 realm=b", Verdict::Unsaid),
        // An API with two schemes lists both.
        ("Token, Bearer error=insufficient_scope", Verdict::NotOurs),
        ("Bearer error=insufficient_claims", Verdict::NotOurs),
        ("Bearer error=invalid_token, claims=e30", Verdict::Claims("{}".to_owned())),
        ("Bearer error=invalid_token, claims=\"[]\"", Verdict::InvalidToken),
        ("Bearer error=insufficient_claims, claims=e30", Verdict::Claims("{}".to_owned())),
        ("Bearer error=insufficient_claims, claims=\"e30=\"", Verdict::Claims("{}".to_owned())),
        ("Bearer error=insufficient_claims, claims=\"{}\"", Verdict::Claims("{}".to_owned())),
        ("Bearer error=insufficient_claims, claims=bm90IGFuIG9iamVjdA", Verdict::NotOurs),
        ("Bearer error=insufficient_claims, claims=\"{not json}\"", Verdict::NotOurs),
        ("Bearer error=insufficient_claims, claims=e25vdCBqc29ufQ", Verdict::NotOurs),
        ("Bearer error=insufficient_claims, claims=\"[]\"", Verdict::NotOurs),
        ("Bearer error=insufficient_user_authentication", step_up(None, None)),
        (
            r#"Bearer error="insufficient_user_authentication", acr_values="a b", max_age="5""#,
            step_up(Some("a b"), Some(5)),
        ),
        ("Bearer error=insufficient_user_authentication, max_age=-5", step_up(None, None)),
        (&format!("Bearer error=insufficient_claims, claims={encoded}"), Verdict::Claims(claims.to_owned())),
    ] {
        assert_eq!(verdict(line), expected, "{line}");
    }
    assert_eq!(Verdict::of(&HeaderMap::new(), "Bearer"), Verdict::Unsaid);
    let both = headers(&["Bearer error=invalid_token", "DPoP error=use_dpop_nonce"]);
    assert_eq!(Verdict::of(&both, "DPoP"), Verdict::WantsNonce);
    for (bearer, expected) in [
        ("Bearer error=insufficient_user_authentication, acr_values=mfa", step_up(Some("mfa"), None)),
        ("Bearer error=insufficient_scope", Verdict::NotOurs),
        ("Bearer error=invalid_token", Verdict::InvalidToken),
        ("Bearer realm=api", Verdict::Unsaid),
    ] {
        let both = headers(&["DPoP algs=ES256", bearer]);
        assert_eq!(Verdict::of(&both, "DPoP"), expected, "{bearer}");
    }
}

#[test]
fn a_step_up_says_what_is_wanted() {
    let Verdict::StepUp(step_up) =
        verdict("Bearer error=insufficient_user_authentication, acr_values=\"urn:mfa\", max_age=60")
    else {
        panic!("a step-up");
    };
    let text = step_up.to_string();
    assert!(text.contains("urn:mfa") && text.contains("60 s"), "{text}");
}

/// The headers of real servers, from their documentation or as observed, with their meanings.
#[test]
fn real_servers_are_understood() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/challenge");
    if !folder.exists() {
        return; // A published package.
    }
    let read = |name: &str| {
        let text =
            std::fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        Verdict::of(&headers(&text.lines().collect::<Vec<_>>()), "Bearer")
    };
    for name in [
        "okta",
        "keycloak",
        "spring",
        "auth0",
        "google",
        "kubernetes_oidc",
        "entra_expired",
        "envoy",
        "aspnet",
    ] {
        assert_eq!(read(name), Verdict::InvalidToken, "{name}");
    }
    for name in [
        "kong",
        "envoy_missing",
        "nginx",
        "docker_registry",
        "gitlab_registry",
        "sharepoint",
        "graph_missing",
    ] {
        assert_eq!(read(name), Verdict::Unsaid, "{name}");
    }
    for name in ["github", "aws_ecr", "iis", "proxy_digest", "spring_scope", "aws_sigv4"] {
        assert_eq!(read(name), Verdict::NotOurs, "{name}");
    }
    for name in ["entra_cae", "graph_cae"] {
        assert!(matches!(read(name), Verdict::Claims(claims) if claims.contains("access_token")), "{name}");
    }
    assert!(matches!(read("step_up"), Verdict::StepUp(_)));
    assert_eq!(read("bluesky_dpop"), Verdict::WantsNonce);
}
