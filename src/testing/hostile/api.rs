//! The API, and the other host.

use std::time::Duration;

use tokio::time::Instant;

use super::super::reply::{Asked, Reply};
use super::proof::Target;
use super::seen::Count;
use super::setting::{Does, Nonce, next};
use super::world::{World, is_nonce, nonce_text};

/// A token is accepted for this time after its end, because it may have been valid when it was sent.
const LENIENCY: Duration = Duration::from_millis(500);

pub(super) fn answer(world: &mut World, asked: &Asked) -> Reply {
    world.add(Count::ApiRequests);
    let (method, path) = target(asked);
    world.by_call.entry(path.clone()).or_default().0 += 1;
    if asked.header("authorization").is_none() {
        world.add(Count::WithoutToken);
    }
    let scripted = next(&mut world.api.answers);
    let reply = match scripted.as_ref().and_then(|answer| Some((answer, answer.status?))) {
        Some((answer, status)) => {
            note(world, asked);
            world.scripted(answer, status)
        }
        None => match scripted.and_then(|answer| answer.does).unwrap_or(Does::Usual) {
            Does::Close => Reply::Close,
            Does::Lose => {
                carried_out(world, asked, &method, &path);
                Reply::Close
            }
            Does::Usual | Does::Drip | Does::Oversize => carried_out(world, asked, &method, &path),
        },
    };
    match world.api.nonce {
        Nonce::Never => reply,
        Nonce::Once | Nonce::Each => reply.with_header("DPoP-Nonce", nonce_text(world.api_nonce)),
    }
}

/// The method, and the path without its query.
fn target(asked: &Asked) -> (String, String) {
    let mut words = asked.head.split_ascii_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    (method.to_owned(), path.split('?').next().unwrap_or_default().to_owned())
}

/// The scheme and the token of a request.
fn presented(asked: &Asked) -> (String, String) {
    let value = asked.header("authorization").unwrap_or_default();
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    (scheme.to_ascii_lowercase(), token.trim().to_owned())
}

/// Counts a token that should not have been sent. Returns whether it is accepted.
fn note(world: &mut World, asked: &Asked) -> bool {
    let (_, token) = presented(asked);
    let Some(issued) = world.access.get(&token) else { return false };
    let (is_revoked, is_over) =
        (issued.is_revoked, issued.until.is_some_and(|end| Instant::now() >= end + LENIENCY));
    if is_over {
        world.add(Count::ExpiredTokenShown);
    }
    if is_revoked {
        world.add(Count::RevokedTokenShown);
    }
    !is_revoked && !is_over
}

fn carried_out(world: &mut World, asked: &Asked, method: &str, path: &str) -> Reply {
    if asked.header("authorization").is_none() {
        return rejection(&["Bearer".to_owned()]);
    }
    if world.client.dpop
        && let Err(code) = proved(world, asked, method, path)
    {
        return rejection(&[format!(r#"DPoP error="{code}""#)]);
    }
    let by_chance = world.api.random.is_some_and(|random| world.dice.u32(..random.one_in) == 0);
    let scheme = if world.client.dpop { "dpop" } else { "bearer" };
    let is_good = note(world, asked) && presented(asked).0 == scheme;
    if !is_good || by_chance {
        return rejection(&world.api.challenges);
    }
    world.add(Count::Applied);
    world.by_call.entry(path.to_owned()).or_default().1 += 1;
    Reply::json(200, r#"{"orders":[]}"#)
}

fn rejection(challenges: &[String]) -> Reply {
    challenges
        .iter()
        .fold(Reply::json(401, "{}"), |reply, challenge| reply.with_header("WWW-Authenticate", challenge))
}

/// Whether a valid proof comes with the token, by the key to which the token is bound (RFC 9449 section 7).
fn proved(world: &mut World, asked: &Asked, method: &str, path: &str) -> Result<(), &'static str> {
    let (_, token) = presented(asked);
    let uri = format!("{}{path}", world.origins.api);
    let proof = world
        .proof(asked, &Target { method, uri: &uri, token: Some(&token) })
        .map_err(|()| "invalid_dpop_proof")?;
    let is_current = is_nonce(world.api.nonce, world.api_nonce, proof.nonce.as_deref());
    if world.api.nonce == Nonce::Each {
        world.api_nonce += 1;
    }
    if !is_current {
        world.add(Count::WrongNonces);
        return Err("use_dpop_nonce");
    }
    let is_bound = world.access.get(&token).is_some_and(|issued| issued.bound_to == Some(proof.key));
    if is_bound { Ok(()) } else { Err("invalid_token") }
}

/// Another host, to which a redirect leads. It gives a token to a client that sends credentials there.
pub(super) fn elsewhere(world: &mut World, asked: &Asked) -> Reply {
    world.add(Count::RequestsElsewhere);
    if world.shows_a_secret(&asked.head) || world.shows_a_secret(&asked.body) {
        world.add(Count::SecretsElsewhere);
    }
    let body = r#"{"access_token":"from-elsewhere","token_type":"Bearer","expires_in":3600,"orders":[]}"#;
    Reply::json(200, body)
}
