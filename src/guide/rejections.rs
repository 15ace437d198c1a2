//! After a 401: when to call `replace`, when `invalidate`, and when neither.
//!
//! Use a [`middleware`](crate::middleware) if you can: it reads the answer, reports the token, and repeats the
//! request. The rest of this chapter is for your own clients.
//!
//! | the API answered | call | why |
//! |---|---|---|
//! | 401, and the request can be repeated | [`replace`](crate::TokenHandle::replace), and repeat the request once with the returned token | all other callers keep the token |
//! | 401, in a handler that calls `get` again later | [`invalidate`](crate::TokenHandle::invalidate) | callers wait for the next token, at most 1 s |
//! | you know that the token has leaked | [`discard`](crate::TokenHandle::discard) | the only call that ends the use of a token for ever |
//! | 403, `insufficient_scope` | nothing | a right is missing. A new token has the same rights |
//! | 401 with `insufficient_user_authentication` | nothing | a user has to log in again |
//! | 401 with `use_dpop_nonce` | nothing: call `learn`, and repeat the request with the same token | the nonce was old, not the token |
//! | 407, or a challenge for Basic alone | nothing | the server requires another credential |
//! | 401 from a redirect's target | nothing | the token was not meant for that origin |
//!
//! # When not to call `invalidate`
//!
//! - For a 403, since a new token has the same rights.
//! - In a retry loop: it withholds the token from all callers for up to 1 s. `replace` does not.
//! - If the source caches its token (metadata servers, files): the source is asked, and gives out the same token.
//!   The token stays in use, and one WARN says so. The call is harmless, but useless.
//! - To refresh at a certain time: use [`refresh`](crate::TokenHandle::refresh).
//!
//! # When a report is refused
//!
//! A report never fails, but it starts no flight in three cases. Then `replace` answers at once, with an older
//! token that may still work or with the same one. The counters give the reason: `refused_by_settle`,
//! `refused_by_budget`, `refused_by_cooldown`.
//!
//! | case | setting | default | change it if |
//! |---|---|---|---|
//! | the token is too young | [`settle`](crate::RefreshPolicy::settle) | 2 s, at most a tenth of the life | APIs know new tokens later: set this number of seconds. APIs know each token at once (as with introspection), and young tokens are revoked: set zero. In tests: zero |
//! | reports have caused too many flights | [`reports`](crate::RefreshPolicy::reports), [`report_every`](crate::RefreshPolicy::report_every) | 8 at once, then 1 a minute | tokens are really revoked more often, and the auth server can serve more calls |
//! | the source has just failed | [`cooldown`](crate::RefreshPolicy::cooldown) | 1 s, doubled up to 10 s | rarely |
//!
//! ```
//! use std::time::Duration;
//! use tokenflight::{RefreshPolicy, Token, TokenActor, source_fn};
//!
//! # actix_rt::System::new().block_on(async {
//! let source = source_fn(|_cx| async { Ok(Token::new("abc").with_lifetime(Duration::from_secs(3600))) });
//! let policy = RefreshPolicy::default().settle(Duration::from_secs(5)).reports(4);
//! let tokens = TokenActor::builder(source).policy(policy).start()?;
//!
//! let token = tokens.get().await?;
//! let next = tokens.replace(&token).await?; // younger than `settle`: answered at once, with the same token
//! assert!(next.is_same(&token));
//! let status = tokens.status().await?;
//! assert_eq!((status.counters.refused_by_settle, status.suspect), (1, true));
//! assert!(status.next_report.is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! `docs/reports.md` in the repository has the states, and the reason for each number.
