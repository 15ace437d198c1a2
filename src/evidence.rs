//! The evidence about a token from the answers of APIs, including successes. The middlewares collect it.
//! `docs/reports.md` has the reasons.
//!
//! One API's 401 alone proves little. An origin is *noisy* once it has accepted a token after it had rejected that
//! token: the accepted request was sent after the rejection. A rejection is *confirmed* if several requests were
//! rejected by origins that had accepted the token, and none was accepted meanwhile.
//!
//! A good answer usually costs four loads of atomics: no message, no lock, no allocation, no read of a clock.
//! Therefore time is counted in *moments*: each rejection that is answered begins a new moment. A request stores
//! the moment in which it is sent. If this moment is not less than the one that a rejection began, the request was
//! sent after that rejection was answered.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::duration::millis;
use crate::error::printable_name;
use crate::policy::Settle;
use crate::sync::{AtomicU64, Mutex, Ordering, lock};
use crate::token::Token;

/// How long an origin stays noisy.
const NOISY_FOR: Duration = Duration::from_secs(600);
/// The number of further rejections that confirm the first one.
const CONFIRMING: u32 = 2;
/// A source may give a revoked token again. Then rejections of this token are confirmed again only after this part of the
/// time since they were first confirmed: the source is asked less and less.
const PART: u64 = 16;
/// The maximum number of origins whose reputation is shared between the middlewares of an actor. Each further
/// origin has its reputation in one middleware only.
const ORIGINS: usize = 256;

/// The evidence about one actor's tokens, over all origins.
///
/// Its atomics order no other memory, so relaxed is enough. In a race an acceptance or a rejection may be seen
/// late. Then a confirmation needs one more rejection.
#[derive(Debug)]
pub(crate) struct Evidence {
    /// The actor's name, for metrics.
    #[cfg_attr(not(feature = "metrics"), allow(dead_code))]
    pub(crate) name: Arc<str>,
    /// The same for the log, on one line.
    pub(crate) shown: Arc<str>,
    pub(crate) settle: Settle,
    clock: Arc<dyn Clock>,
    moment: AtomicU64,
    /// The token that the open case is about.
    suspect: AtomicU64,
    /// The latest moment in which a request with the suspect was sent that was accepted.
    refuted: AtomicU64,
    case: Mutex<Case>,
    origins: Mutex<Vec<Arc<Origin>>>,
}

/// The evidence about one origin. Each answer of the origin may write it.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) name: Box<str>,
    /// The token that the origin accepted last.
    accepted: AtomicU64,
    /// The token that the origin rejected last, until it accepts this token again.
    rejected: AtomicU64,
    /// The moment that this rejection began.
    rejected_at: AtomicU64,
    /// On the boot clock, in milliseconds.
    noisy_until: AtomicU64,
}

/// A rejection by an origin that had accepted the token, and the rejections after it.
#[derive(Debug, Default)]
struct Case {
    token: u64,
    /// The moment that this rejection began.
    first: u64,
    later: u32,
    /// On the boot clock, in milliseconds.
    confirmed_at: Option<u64>,
}

impl Case {
    /// Whether the token is rejected by more than one request. `now` is on the boot clock, in milliseconds.
    fn is_confirmed(&self, token: &Token, now: u64) -> bool {
        let is_repeated_lately =
            self.confirmed_at.is_some_and(|at| millis(token.age()) < now.saturating_sub(at) / PART);
        self.later >= CONFIRMING && !is_repeated_lately
    }
}

impl Evidence {
    pub(crate) fn new(name: Arc<str>, settle: Settle, clock: Arc<dyn Clock>) -> Self {
        Self {
            shown: printable_name(&name),
            name,
            settle,
            clock,
            moment: AtomicU64::new(1),
            suspect: AtomicU64::new(0),
            refuted: AtomicU64::new(0),
            case: Mutex::default(),
            origins: Mutex::default(),
        }
    }

    /// The reputation of this origin, which all middlewares of the actor share.
    pub(crate) fn origin(&self, name: &str) -> Arc<Origin> {
        let mut origins = lock(&self.origins);
        if let Some(known) = origins.iter().find(|origin| *origin.name == *name) {
            return Arc::clone(known);
        }
        if origins.len() >= ORIGINS {
            origins.retain(|origin| Arc::strong_count(origin) > 1);
        }
        let origin = Arc::new(Origin {
            name: name.into(),
            accepted: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            rejected_at: AtomicU64::new(0),
            noisy_until: AtomicU64::new(0),
        });
        if origins.len() < ORIGINS {
            origins.push(Arc::clone(&origin));
        }
        origin
    }

    /// The moment that a request stores when it is sent.
    pub(crate) fn moment(&self) -> u64 {
        self.moment.load(Ordering::Relaxed)
    }

    /// `origin` has accepted `token` in a request that was sent in the moment `sent`.
    pub(crate) fn accepted(&self, origin: &Origin, token: &Token, sent: u64) {
        let token = token.mark();
        if origin.accepted.load(Ordering::Relaxed) != token {
            origin.accepted.store(token, Ordering::Relaxed);
        }
        if self.suspect.load(Ordering::Relaxed) == token && self.refuted.load(Ordering::Relaxed) < sent {
            self.refuted.fetch_max(sent, Ordering::Relaxed);
        }
        if origin.rejected.load(Ordering::Relaxed) == token
            && sent >= origin.rejected_at.load(Ordering::Relaxed)
        {
            origin.rejected.store(0, Ordering::Relaxed);
            origin.noisy_until.store(self.now().saturating_add(millis(NOISY_FOR)), Ordering::Relaxed);
        }
    }

    /// `origin` has rejected `token` in a request that was sent in the moment `sent`. Returns whether the rejection
    /// is confirmed.
    pub(crate) fn rejected(&self, origin: &Origin, token: &Token, sent: u64) -> bool {
        let (given, token) = (token, token.mark());
        let mut case = lock(&self.case);
        // Requests from here on are sent after the rejection was answered.
        let next = self.moment.fetch_add(1, Ordering::Relaxed) + 1;
        if origin.rejected.load(Ordering::Relaxed) != token {
            // First the moment is stored. Then the token is stored. Therefore a reader that sees the token
            // compares with this moment.
            origin.rejected_at.store(next, Ordering::Relaxed);
            origin.rejected.store(token, Ordering::Relaxed);
        }
        if origin.accepted.load(Ordering::Relaxed) != token {
            return false;
        }
        if case.token != token || self.refuted.load(Ordering::Relaxed) >= case.first {
            *case = Case { token, first: next, later: 0, confirmed_at: None };
            self.refuted.store(0, Ordering::Relaxed);
            self.suspect.store(token, Ordering::Relaxed);
        } else if sent >= case.first {
            case.later += 1;
        }
        if case.later < CONFIRMING {
            return false;
        }
        let now = self.now();
        case.confirmed_at.get_or_insert(now);
        case.is_confirmed(given, now)
    }

    /// Whether the last rejection of `token` was confirmed, and no origin has accepted the token since.
    pub(crate) fn is_confirmed(&self, token: &Token) -> bool {
        let case = lock(&self.case);
        let is_refuted = self.refuted.load(Ordering::Relaxed) >= case.first;
        case.token == token.mark() && !is_refuted && case.is_confirmed(token, self.now())
    }

    pub(crate) fn is_noisy(&self, origin: &Origin) -> bool {
        self.now() < origin.noisy_until.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        millis(self.clock.now().boot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::RefreshPolicy;
    use crate::testing::ManualClock;

    struct Rig {
        evidence: Evidence,
        clock: ManualClock,
        token: Token,
        origins: [Arc<Origin>; 3],
    }

    fn rig() -> Rig {
        let clock = ManualClock::new();
        let evidence =
            Evidence::new("token".into(), RefreshPolicy::default().settle_rule(), Arc::new(clock.clone()));
        let origins = ["a", "b", "c"].map(|name| evidence.origin(name));
        Rig { evidence, clock, token: Token::new("s3cret"), origins }
    }

    impl Rig {
        fn accept(&self, origin: usize, sent: u64) {
            self.evidence.accepted(&self.origins[origin], &self.token, sent);
        }

        fn reject(&self, origin: usize, sent: u64) -> bool {
            self.evidence.rejected(&self.origins[origin], &self.token, sent)
        }

        fn now(&self) -> u64 {
            self.evidence.moment()
        }
    }

    #[test]
    fn a_name_begins_no_line_of_its_own() {
        let name: Arc<str> = "a\nWARN forged".into();
        let settle = RefreshPolicy::default().settle_rule();
        let evidence = Evidence::new(Arc::clone(&name), settle, Arc::new(ManualClock::new()));
        assert_eq!((&*evidence.name, &*evidence.shown), (&*name, r"a\nWARN forged"));
    }

    #[test]
    fn three_rejections_by_origins_that_had_accepted_confirm_each_other() {
        let rig = rig();
        let begin = rig.now();
        (0..3).for_each(|origin| rig.accept(origin, begin));
        assert!(!rig.reject(0, begin));
        assert!(!rig.reject(1, begin), "sent before the first rejection was answered: it says nothing new");
        assert!(!rig.reject(1, rig.now()));
        assert!(rig.reject(2, rig.now()));
        assert!(rig.reject(0, rig.now()), "and from then on");
    }

    #[test]
    fn an_origin_that_never_accepted_confirms_nothing() {
        let rig = rig();
        rig.accept(0, rig.now());
        for _ in 0..10 {
            assert!(!rig.reject(1, rig.now()));
        }
        assert!(!rig.reject(0, rig.now()));
        assert!(!rig.reject(1, rig.now()));
        assert!(!rig.reject(1, rig.now()));
    }

    #[test]
    fn one_acceptance_of_a_later_request_refutes() {
        let rig = rig();
        let begin = rig.now();
        (0..3).for_each(|origin| rig.accept(origin, begin));
        assert!(!rig.reject(0, begin));
        assert!(!rig.reject(1, rig.now()));
        rig.accept(2, begin);
        rig.accept(2, rig.now());
        assert!(!rig.reject(1, rig.now()), "this is the first one again");
        assert!(!rig.reject(1, rig.now()));
        assert!(rig.reject(0, rig.now()));
    }

    #[test]
    fn an_acceptance_that_was_sent_earlier_refutes_nothing() {
        let rig = rig();
        let begin = rig.now();
        (0..3).for_each(|origin| rig.accept(origin, begin));
        assert!(!rig.reject(0, begin));
        rig.accept(2, begin);
        assert!(!rig.reject(1, rig.now()));
        assert!(rig.reject(1, rig.now()));
    }

    #[test]
    fn the_same_secret_from_the_source_again_is_the_same_token() {
        let mut rig = rig();
        rig.token = rig.token.with_lifetime(Duration::from_secs(3_600));
        rig.reject(0, rig.now());
        rig.token = Token::new("s3cret").with_type(crate::token::TokenType::DPoP);
        rig.accept(0, rig.now());
        assert!(rig.evidence.is_noisy(&rig.origins[0]), "it has accepted what it rejected");
        rig.token = Token::new("s3cret");
        rig.reject(0, rig.now());
        rig.reject(0, rig.now());
        assert!(rig.reject(0, rig.now()), "it had accepted this secret");
        assert!(rig.evidence.is_confirmed(&Token::new("s3cret")));
        assert!(!rig.evidence.is_confirmed(&Token::new("s3cret2")));
    }

    #[test]
    fn a_revoked_token_that_its_source_gives_again_is_confirmed_after_a_part_of_its_time() {
        let mut rig = rig();
        let given = |rig: &Rig| {
            let clock: Arc<dyn Clock> = Arc::new(rig.clock.clone());
            Token::new("s3cret").stamped(clock.now(), &clock, NOISY_FOR, NOISY_FOR)
        };
        rig.token = given(&rig);
        rig.accept(0, rig.now());
        (0..2).for_each(|_| assert!(!rig.reject(0, rig.now())));
        assert!(rig.reject(0, rig.now()));
        rig.token = given(&rig);
        assert!(rig.reject(0, rig.now()), "at once for the first time");
        rig.clock.suspend(Duration::from_secs(160));
        rig.token = given(&rig);
        assert!(!rig.reject(0, rig.now()));
        rig.clock.suspend(Duration::from_secs(9));
        assert!(!rig.reject(0, rig.now()) && !rig.evidence.is_confirmed(&rig.token));
        rig.clock.suspend(Duration::from_secs(2));
        assert!(rig.reject(0, rig.now()) && rig.evidence.is_confirmed(&rig.token));
        rig.token = Token::new("next");
        rig.accept(0, rig.now());
        (0..2).for_each(|_| assert!(!rig.reject(0, rig.now())));
        assert!(rig.reject(0, rig.now()), "another secret is another case");
    }

    #[test]
    fn an_origin_is_noisy_once_it_accepts_what_it_rejected_and_for_ten_minutes() {
        let rig = rig();
        let begin = rig.now();
        rig.reject(0, begin);
        rig.accept(0, begin);
        assert!(!rig.evidence.is_noisy(&rig.origins[0]), "that request was sent before");
        rig.accept(0, rig.now());
        assert!(rig.evidence.is_noisy(&rig.origins[0]));
        assert!(!rig.evidence.is_noisy(&rig.origins[1]));
        rig.clock.suspend(NOISY_FOR);
        assert!(!rig.evidence.is_noisy(&rig.origins[0]));
        rig.accept(0, rig.now());
        assert!(!rig.evidence.is_noisy(&rig.origins[0]), "nothing was rejected since");
    }

    #[test]
    fn another_token_is_another_case() {
        let mut rig = rig();
        (0..3).for_each(|origin| rig.accept(origin, rig.now()));
        rig.reject(0, rig.now());
        rig.reject(0, rig.now());
        rig.token = Token::new("next");
        assert!(!rig.reject(0, rig.now()), "nobody has accepted this one");
        rig.accept(0, rig.now());
        assert!(!rig.reject(0, rig.now()));
    }

    #[test]
    fn origins_are_shared_by_name_and_bounded() {
        let rig = rig();
        assert!(Arc::ptr_eq(&rig.evidence.origin("a"), &rig.origins[0]));
        for number in 0..10 * ORIGINS {
            rig.evidence.origin(&number.to_string());
        }
        assert!(lock(&rig.evidence.origins).len() <= ORIGINS);
        assert!(Arc::ptr_eq(&rig.evidence.origin("a"), &rig.origins[0]), "one in use is kept");
    }
}
