//! The token endpoint.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::reply::{Asked, Reply};
use super::proof::{self, Expected, Flaw, Target};
use super::protocol::{Auth, Grant};
use super::seen::Count;
use super::setting::{Does, Nonce, next};
use super::world::{CLIENT_ID, Issued, World, decoded, is_nonce, nonce_text};

/// The time between two bytes of a dripping answer.
const DRIP: Duration = Duration::from_millis(100);
/// The length of the white space in front of an oversize answer.
const OVERSIZE: usize = 4 * 1024 * 1024;

/// RFC 7523 section 2.2.
const KIND: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

pub(super) fn answer(world: &mut World, asked: &Asked) -> Reply {
    if asked.head.starts_with("GET /") && asked.head.contains("/.well-known/") {
        return metadata(world);
    }
    world.add(Count::TokenRequests);
    if world.not_before.is_some_and(|end| Instant::now() < end) {
        world.add(Count::EarlyTokenRequests);
    }
    if world.is_down {
        return Reply::text(503, "text/html", "<h1>503 Service Unavailable</h1>");
    }
    let scripted = next(&mut world.token.answers);
    let reply = match scripted.as_ref().and_then(|answer| Some((answer, answer.status?))) {
        Some((answer, status)) => {
            world.note_retry_after(answer);
            world.scripted(answer, status)
        }
        None => carried_out(world, asked, scripted.and_then(|answer| answer.does).unwrap_or(Does::Usual)),
    };
    let takes = world.token.takes;
    if takes.is_zero() { reply } else { Reply::After(takes, Box::new(reply)) }
}

fn metadata(world: &World) -> Reply {
    let body = json!({
        "issuer": world.origins.auth,
        "token_endpoint": world.token_endpoint(),
        "authorization_endpoint": format!("{}/authorize", world.origins.auth),
        "jwks_uri": format!("{}/keys", world.origins.auth),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "grant_types_supported": ["client_credentials", "refresh_token"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ["ES256"],
        "dpop_signing_alg_values_supported": ["ES256"],
    });
    Reply::json(200, body.to_string())
}

fn carried_out(world: &mut World, asked: &Asked, does: Does) -> Reply {
    if does == Does::Close {
        return Reply::Close;
    }
    let reply = granted(world, asked).unwrap_or_else(|refusal| refusal);
    match does {
        Does::Lose => Reply::Close,
        Does::Drip => Reply::Drip(bytes(&reply), DRIP),
        Does::Oversize => padded(reply),
        Does::Usual | Does::Close => reply,
    }
}

fn refusal(status: u16, code: &str) -> Reply {
    Reply::json(status, json!({ "error": code }).to_string())
}

fn granted(world: &mut World, asked: &Asked) -> Result<Reply, Reply> {
    let form = form_urlencoded::parse(asked.body.as_bytes());
    let form: Vec<(String, String)> = form.into_owned().collect();
    if !is_token_request(asked, &form) {
        return Err(refusal(400, "invalid_request"));
    }
    let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    if !is_client(world, asked, &field) {
        world.add(Count::WrongCredentials);
        return Err(refusal(401, "invalid_client"));
    }
    let bound_to = if world.client.dpop { Some(proved(world, asked)?) } else { None };
    let reply = match (field("grant_type"), world.client.grant) {
        (Some("client_credentials"), Grant::ClientCredentials) => Ok(issue(world, bound_to, None)),
        (Some("refresh_token"), Grant::RefreshToken) => {
            refreshed(world, field("refresh_token").unwrap_or_default(), bound_to)
        }
        _ => Err(refusal(400, "unsupported_grant_type")),
    };
    // RFC 9449 section 8.2: any answer may carry the next nonce.
    let with_nonce = |world: &World, reply: Reply| match world.token.nonce {
        Nonce::Never => reply,
        Nonce::Once | Nonce::Each => reply.with_header("DPoP-Nonce", nonce_text(world.token_nonce)),
    };
    reply.map(|reply| with_nonce(world, reply)).map_err(|reply| with_nonce(world, reply))
}

/// Whether it is a `POST` of a form to the token endpoint with each field once (RFC 6749 section 3.2), and with one
/// method of client authentication at most (section 2.3). A field without a value counts as left out.
fn is_token_request(asked: &Asked, form: &[(String, String)]) -> bool {
    /// RFC 8693 section 2.1 and RFC 8707 section 2.
    const MAY_REPEAT: [&str; 2] = ["audience", "resource"];
    let is_post = asked.head.starts_with("POST ") && asked.target() == "/token";
    let kind = asked.header("content-type").and_then(|value| value.split(';').next()).unwrap_or_default();
    let is_form = kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded");
    let times = |name: &str| form.iter().filter(|(key, value)| key == name && !value.is_empty()).count();
    let is_each_once = form.iter().all(|(name, _)| MAY_REPEAT.contains(&name.as_str()) || times(name) <= 1);
    let by_header = usize::from(asked.header("authorization").is_some());
    let methods = by_header + times("client_secret") + times("client_assertion");
    is_post && is_form && is_each_once && methods <= 1
}

/// Whether the client is the configured one.
fn is_client<'a>(world: &mut World, asked: &Asked, field: &dyn Fn(&str) -> Option<&'a str>) -> bool {
    if world.client.auth == Auth::ClientSecretBasic {
        return basic(asked).is_some_and(|(id, secret)| id == CLIENT_ID && secret == world.client.secret);
    }
    let Some(text) = field("client_assertion").filter(|_| field("client_assertion_type") == Some(KIND))
    else {
        return false;
    };
    let (issuer, endpoint, key) =
        (world.origins.auth.clone(), world.token_endpoint(), world.public_key().clone());
    let expected = Expected { client: CLIENT_ID, audiences: [&issuer, &endpoint] };
    // Anybody who has this assertion can use it until it ends. Therefore it must go to no other host.
    world.secrets.push(text.to_owned());
    let verdict = proof::assertion(text, &key, &expected, &mut world.ids);
    if verdict == Err(Flaw::Repeated) {
        world.add(Count::RepeatedJti);
    }
    verdict.is_ok()
}

/// The id and the secret, each form-encoded before they were joined (RFC 6749 section 2.3.1).
fn basic(asked: &Asked) -> Option<(String, String)> {
    let value = asked.header("authorization")?;
    let (scheme, credentials) = value.split_once(' ')?;
    let text = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    scheme.eq_ignore_ascii_case("basic").then(|| (decoded(id), decoded(secret)))
}

/// The key of a valid proof.
fn proved(world: &mut World, asked: &Asked) -> Result<String, Reply> {
    let uri = world.token_endpoint();
    let proof = world
        .proof(asked, &Target { method: "POST", uri: &uri, token: None })
        .map_err(|()| refusal(400, "invalid_dpop_proof"))?;
    let is_current = is_nonce(world.token.nonce, world.token_nonce, proof.nonce.as_deref());
    if world.token.nonce == Nonce::Each {
        world.token_nonce += 1;
    }
    if !is_current {
        world.add(Count::WrongNonces);
        let nonce = nonce_text(world.token_nonce);
        return Err(refusal(400, "use_dpop_nonce").with_header("DPoP-Nonce", nonce));
    }
    Ok(proof.key)
}

/// Each refresh token may be used once. A second use revokes the family (RFC 9700 section 4.14.2).
fn refreshed(world: &mut World, token: &str, bound_to: Option<String>) -> Result<Reply, Reply> {
    let Some(spent) = world.refresh.get_mut(token) else { return Err(refusal(400, "invalid_grant")) };
    spent.times += 1;
    if spent.times > 1 {
        world.revoke_family();
        return Err(refusal(400, "invalid_grant"));
    }
    if spent.is_revoked {
        return Err(refusal(400, "invalid_grant"));
    }
    let next = world.new_refresh_token();
    Ok(issue(world, bound_to, Some(next)))
}

fn issue(world: &mut World, bound_to: Option<String>, refresh_token: Option<String>) -> Reply {
    world.add(Count::TokensIssued);
    let token = world.new_secret("access");
    let usual = if world.client.dpop { "DPoP" } else { "Bearer" };
    let kind = world.token.token_type.clone().unwrap_or_else(|| usual.to_owned());
    let mut body = json!({ "access_token": token, "token_type": kind });
    if !world.token.expires_in.is_null() {
        body["expires_in"] = world.token.expires_in.clone();
    }
    if let Some(refresh_token) = refresh_token {
        body["refresh_token"] = refresh_token.into();
    }
    let until = lifetime(&world.token.expires_in).and_then(|life| Instant::now().checked_add(life));
    world.access.insert(token, Issued { until, bound_to, is_revoked: false });
    let reply = Reply::json(200, body.to_string());
    if world.token.cache_control { reply.with_header("Cache-Control", "no-store") } else { reply }
}

/// The lifetime that a server means by this text. `None`: it gives no lifetime. An end in the past, and 0, are not
/// meant literally: such a token is accepted.
fn lifetime(expires_in: &Value) -> Option<Duration> {
    let seconds = expires_in.as_f64().or_else(|| expires_in.as_str()?.trim().parse().ok())?;
    Duration::try_from_secs_f64(seconds).ok().filter(|life| !life.is_zero())
}

/// The bytes of an answer on the wire.
fn bytes(reply: &Reply) -> Vec<u8> {
    let Reply::Http { status, headers, body } = reply else { return Vec::new() };
    let mut head = format!("HTTP/1.1 {status} _\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
    for (name, value) in headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

fn padded(reply: Reply) -> Reply {
    let Reply::Http { status, headers, body } = reply else { return reply };
    Reply::Http { status, headers, body: [vec![b' '; OVERSIZE], body].concat() }
}

#[cfg(test)]
mod tests {
    use super::super::scenario::Scenario;
    use super::*;

    fn world(token: &str) -> World {
        let scenario = format!(
            r#"[{{"name":"a","tried":"a","by":"practice","rank":"must","client":{{"secret":"s3cret"}},
                 "token":{token},"steps":[{{"call":{{}}}}],"seen":{{"token_requests":1}}}}]"#
        );
        World::new(&Scenario::read(&scenario).unwrap()[0]).unwrap()
    }

    const FORM: &str = "Content-Type: application/x-www-form-urlencoded";

    /// The status, and the code of an error.
    fn asks(line: &str, headers: &[&str], body: &str) -> (String, String) {
        let basic = format!("Authorization: Basic {}", STANDARD.encode(format!("{CLIENT_ID}:s3cret")));
        let head = [&[line, basic.as_str()], headers].concat().join("\r\n");
        let reply = answer(&mut world("{}"), &Asked { head, body: body.to_owned() });
        let Reply::Http { status, body, .. } = reply else { panic!("{reply:?}") };
        let body: Value = serde_json::from_slice(&body).unwrap();
        (status, body["error"].as_str().unwrap_or_default().to_owned())
    }

    const POST: &str = "POST /token HTTP/1.1";
    const BODY: &str = "grant_type=client_credentials";

    #[test]
    fn a_form_that_is_posted_gets_a_token() {
        let in_odd_case = "Content-Type: application/X-WWW-form-urlencoded; charset=utf-8";
        for (header, body) in [
            (FORM, BODY.to_owned()),
            (in_odd_case, BODY.to_owned()),
            (FORM, format!("{BODY}&client_id=hostile-client&client_secret=&scope=&scope=")),
            (FORM, format!("{BODY}&resource=a&resource=b&audience=a&audience=b")),
        ] {
            assert_eq!(asks(POST, &[header], &body), ("200".to_owned(), String::new()), "{body}");
        }
    }

    #[test]
    fn what_is_no_token_request_by_the_standard_is_refused() {
        let json = "Content-Type: application/json";
        for (line, headers, body) in [
            ("GET /token HTTP/1.1", &[FORM][..], BODY),
            ("PUT /token HTTP/1.1", &[FORM], BODY),
            ("POST /other HTTP/1.1", &[FORM], BODY),
            (POST, &[], BODY),
            (POST, &[json], BODY),
            (POST, &[FORM], "grant_type=client_credentials&grant_type=client_credentials"),
            (POST, &[FORM], "grant_type=client_credentials&scope=a&scope=b"),
            (POST, &[FORM], "grant_type=client_credentials&client_secret=s3cret"),
            (POST, &[FORM], "grant_type=client_credentials&client_assertion=a.b.c"),
        ] {
            let refused = ("400".to_owned(), "invalid_request".to_owned());
            assert_eq!(asks(line, headers, body), refused, "{line} {headers:?} {body}");
        }
        assert_eq!(asks(POST, &[FORM], "grant_type=other").1, "unsupported_grant_type");
    }

    #[test]
    fn a_retry_after_may_be_as_long_as_a_number_goes() {
        let headers = format!(r#"[["Retry-After","{}"]]"#, u64::MAX);
        let mut world = world(&format!(r#"{{"answers":[{{"status":503,"headers":{headers}}}]}}"#));
        let asked = Asked { head: POST.to_owned(), body: String::new() };
        answer(&mut world, &asked);
        answer(&mut world, &asked);
        assert_eq!(world.seen().get(&Count::EarlyTokenRequests), Some(&1));
    }
}
