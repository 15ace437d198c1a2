//! The published token: written by the actor, read by every handle without a lock.

use std::array::from_fn;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use crate::clock::{Clock, Timestamp};
use crate::policy::Margins;
use crate::token::Token;

/// What readers find.
#[derive(Debug)]
pub(crate) struct Slot {
    published: ArcSwapOption<Published>,
    /// The last token that was taken away by [`reject`](Self::reject).
    rejected: ArcSwapOption<Token>,
    watch: watch::Sender<Option<Token>>,
    clock: Arc<dyn Clock>,
}

/// As many readers as take tokens without touching the same cache line.
///
/// Where two processors count the same token's clones, each waits for the other: 58 ns a read, against 13 ns on
/// one. With a replica for each, two cost what one does. More than these are of no use to a program that also
/// does something with its tokens.
const REPLICAS: usize = 8;

/// Within so long of its end a token is read by the exact time: the longest stretch of a [pulse](Clock::pulse).
const EXACT_WITHIN: Duration = Duration::from_secs(1);

/// A token with the moments at which it is to be refreshed and no longer to be used, on both clocks.
#[derive(Debug)]
struct Published {
    replicas: [Replica; REPLICAS],
    usable_until: Timestamp,
    near_end_from: Timestamp,
    /// Boot-clock nanoseconds before which no reader reports that the end is near. The reader that reports
    /// sets it to the maximum, so that one message is sent, not one a read; the actor sets it back when the
    /// flight that came of it has failed.
    quiet_until: AtomicU64,
}

/// The token, for one of some groups of threads. In cache lines of its own, two of which are fetched together.
#[derive(Debug)]
#[repr(align(128))]
struct Replica {
    token: Token,
    /// The pulse in which the time has been taken, and the token was good for at least a second; or zero.
    checked: AtomicU64,
}

impl Slot {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            published: ArcSwapOption::empty(),
            rejected: ArcSwapOption::empty(),
            watch: watch::Sender::new(None),
            clock,
        }
    }

    /// The token, if it is usable; and whether this reader is the one to report that its end is near.
    ///
    /// Most reads find that the token has been checked in this very [pulse](Clock::pulse), and need not take the
    /// time, which costs four times as much as all the rest.
    #[inline]
    pub(crate) fn read(&self) -> Option<(Token, bool)> {
        let published = self.published.load();
        let published = published.as_ref()?;
        let replica = published.replica();
        let pulse = self.clock.pulse().map_or(0, NonZeroU64::get);
        // Relaxed is enough: the number guards no other memory.
        let checked = pulse != 0 && replica.checked.load(Ordering::Relaxed) == pulse;
        let report = !checked && self.check(published, replica, pulse)?;
        Some((replica.token.clone(), report))
    }

    /// Takes the time. `pulse` was read before, so that what has happened between is in the time that is taken,
    /// or else there is another pulse by now. And whatever happens later in this pulse, it is less than a second
    /// that passes, and so the token is good.
    #[cold]
    fn check(&self, published: &Published, replica: &Replica, pulse: u64) -> Option<bool> {
        let now = self.clock.now();
        // Both clocks must agree that it is usable; either may say that the end is near.
        if now.boot >= published.usable_until.boot || now.wall >= published.usable_until.wall {
            return None;
        }
        if published.lasts(EXACT_WITHIN, now) {
            replica.checked.store(pulse, Ordering::Relaxed);
        }
        let near = now.boot >= published.near_end_from.boot || now.wall >= published.near_end_from.wall;
        Some(near && published.is_first_to_report(now.boot))
    }

    /// The API rejected `token`: takes it away from readers, and `report`s it to the actor. One that has
    /// been replaced is nobody's concern any more.
    ///
    /// The report goes out **before** the token goes: whoever finds the slot empty and asks the actor is
    /// behind the report in its mailbox, and cannot be given the rejected token. If the actor has published
    /// the next one meanwhile, the exchange fails, and that is well.
    pub(crate) fn reject(&self, token: &Token, report: impl FnOnce()) {
        let published = self.published.load();
        match published.as_ref() {
            Some(current) if !current.replicas[0].token.same_secret(token) => {}
            // What readers no longer find, the actor may still hold.
            None => report(),
            Some(_) => {
                self.rejected.store(Some(Arc::new(token.clone())));
                report();
                self.published.compare_and_swap(&published, None);
            }
        }
    }

    /// The last token that was taken away: whoever finds the slot empty because of it finds it here.
    pub(crate) fn rejected(&self) -> Option<Arc<Token>> {
        self.rejected.load_full()
    }

    pub(crate) fn publish(&self, token: Option<(Token, Margins)>) {
        let published = token.as_ref().map(|(token, margins)| Arc::new(Published::new(token, *margins)));
        self.published.store(published);
        // An observer's waker is foreign code, and must not take the actor with it.
        let _ = catch_unwind(AssertUnwindSafe(|| self.watch.send_replace(token.map(|(token, _)| token))));
    }

    pub(crate) fn quiet_until(&self, moment: Duration) {
        if let Some(published) = self.published.load().as_ref() {
            published.quiet_until.store(nanos(moment), Ordering::Relaxed);
        }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Option<Token>> {
        self.watch.subscribe()
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }
}

impl Published {
    fn new(token: &Token, margins: Margins) -> Self {
        let end = token.end();
        let before = |margin: Duration| Timestamp {
            boot: end.boot.saturating_sub(margin),
            wall: end.wall.checked_sub(margin).unwrap_or(SystemTime::UNIX_EPOCH),
        };
        Self {
            usable_until: before(margins.min_validity),
            near_end_from: before(margins.ahead),
            quiet_until: AtomicU64::new(0),
            replicas: from_fn(|_| Replica { token: token.replica(), checked: AtomicU64::new(0) }),
        }
    }

    /// This thread's.
    #[inline]
    fn replica(&self) -> &Replica {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local!(static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed) % REPLICAS);
        &self.replicas[NUMBER.with(|number| *number)]
    }

    /// Whether it is usable for so long, by both clocks.
    fn lasts(&self, time: Duration, now: Timestamp) -> bool {
        now.boot.saturating_add(time) < self.usable_until.boot
            && now.wall.checked_add(time).is_some_and(|then| then < self.usable_until.wall)
    }

    /// Relaxed is enough: the flag guards no other memory, and a report that is lost or doubled in a race
    /// with the actor's own store costs one message.
    fn is_first_to_report(&self, now: Duration) -> bool {
        let until = self.quiet_until.load(Ordering::Relaxed);
        until <= nanos(now)
            && self
                .quiet_until
                .compare_exchange(until, u64::MAX, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

fn nanos(moment: Duration) -> u64 {
    u64::try_from(moment.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug)]
    struct Hand(Mutex<Timestamp>);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            *self.0.lock().unwrap()
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// A token of 100 s, usable for 90 of them, and near its end from the 80th on.
    fn slot() -> (Arc<Hand>, Slot) {
        let wall = SystemTime::UNIX_EPOCH + 1_000 * SECOND;
        let hand = Arc::new(Hand(Mutex::new(Timestamp { boot: 50 * SECOND, wall })));
        let slot = Slot::new(hand.clone());
        let clock: Arc<dyn Clock> = hand.clone();
        let token = Token::new("abc").with_lifetime(100 * SECOND).stamped(hand.now(), &clock, SECOND);
        slot.publish(Some((token, Margins { ahead: 20 * SECOND, min_validity: 10 * SECOND })));
        (hand, slot)
    }

    fn pass(hand: &Hand, time: Duration) {
        let mut now = hand.0.lock().unwrap();
        now.boot += time;
        now.wall += time;
    }

    #[track_caller]
    fn assert_reports(slot: &Slot, expected: Option<bool>) {
        assert_eq!(slot.read().map(|(_, report)| report), expected);
    }

    #[test]
    fn one_reader_reports_that_the_end_is_near() {
        let (hand, slot) = slot();
        assert_reports(&slot, Some(false));
        pass(&hand, Duration::new(79, 999_999_999));
        assert_reports(&slot, Some(false));
        pass(&hand, Duration::from_nanos(1));
        assert_reports(&slot, Some(true));
        assert_reports(&slot, Some(false));
        pass(&hand, 10 * SECOND);
        assert_reports(&slot, None);
    }

    #[test]
    fn after_a_failure_the_next_report_waits_for_the_cooldown() {
        let (hand, slot) = slot();
        pass(&hand, 80 * SECOND);
        assert_reports(&slot, Some(true));
        slot.quiet_until(hand.now().boot + 3 * SECOND);
        assert_reports(&slot, Some(false));
        pass(&hand, Duration::new(2, 999_999_999));
        assert_reports(&slot, Some(false));
        pass(&hand, Duration::from_nanos(1));
        assert_reports(&slot, Some(true));
        assert_reports(&slot, Some(false));
    }

    #[test]
    fn either_clock_alone_says_that_it_is_near_or_over() {
        for (time, expected) in [(80 * SECOND, Some(true)), (90 * SECOND, None)] {
            let (hand, slot) = slot();
            hand.0.lock().unwrap().boot += time;
            assert_reports(&slot, expected);
            let (hand, slot) = self::slot();
            hand.0.lock().unwrap().wall += time;
            assert_reports(&slot, expected);
        }
    }

    #[test]
    fn a_rejection_takes_away_the_token_that_it_names_and_no_other() {
        let (_, slot) = slot();
        let mut reports = 0;
        slot.reject(&Token::new("another"), || reports += 1);
        assert_eq!((reports, slot.read().is_some()), (0, true));
        assert!(slot.rejected().is_none());
        slot.reject(&Token::new("abc"), || reports += 1);
        assert_eq!((reports, slot.read().is_some()), (1, false));
        assert!(slot.rejected().is_some_and(|token| token.secret() == "abc"));
        slot.reject(&Token::new("abc"), || reports += 1);
        assert_eq!(reports, 2, "the actor may hold it still");
    }
}
