//! What a slot publishes: a token with its moments, in as many copies as its readers need.

use std::array::from_fn;
use std::fmt::Debug;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, SystemTime};

use super::observers::Observers;
use crate::clock::Timestamp;
use crate::policy::Margins;
use crate::sync::{AtomicU64, Ordering, watch};
use crate::token::Token;

/// The copies of one token that readers take theirs from.
pub(crate) trait Copies: Debug + Sized {
    /// Who is told of another secret.
    type Observers: Observers;

    fn of(token: &Token) -> Self;

    fn token(&self) -> &Token;
}

/// What readers look at before they look into the slot.
pub(crate) trait Front<C> {
    /// What they find from now on. The slot's desk is held, so one is shown after the other.
    fn show(&self, published: Option<&Published<C>>);
}

/// Nothing stands before the slot.
impl<C> Front<C> for () {
    fn show(&self, _: Option<&Published<C>>) {}
}

/// As many readers as take tokens without touching the same cache line.
///
/// Where two processors count the same token's clones, each waits for the other: 58 ns a read, against 13 ns on
/// one. With a replica for each, two cost what one does. More than these are of no use to a program that also
/// does something with its tokens.
const REPLICAS: usize = 8;

/// A copy for each of some groups of threads.
#[derive(Debug)]
pub(crate) struct Replicas([Replica; REPLICAS]);

/// The token, for one of some groups of threads. In cache lines of its own, two of which are fetched together.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Replica {
    pub(super) token: Token,
    /// The pulse in which the time has been taken, and the token was good for at least a second; or zero.
    pub(super) checked: AtomicU64,
}

impl Copies for Replicas {
    type Observers = watch::Sender<()>;

    fn of(token: &Token) -> Self {
        Self(from_fn(|_| Replica { token: token.replica(), checked: AtomicU64::new(0) }))
    }

    fn token(&self) -> &Token {
        &self.0[0].token
    }
}

/// One copy for all. Who has many keys spreads the readers by that.
#[cfg(feature = "registry")]
#[derive(Debug)]
pub(crate) struct Single(Token);

#[cfg(feature = "registry")]
impl Copies for Single {
    type Observers = ();

    fn of(token: &Token) -> Self {
        Self(token.clone())
    }

    fn token(&self) -> &Token {
        &self.0
    }
}

/// A token with the moments at which it is to be refreshed and no longer to be used, on both clocks.
#[derive(Debug)]
pub(crate) struct Published<C> {
    pub(super) copies: C,
    pub(super) margins: Margins,
    usable_until: Timestamp,
    near_end_from: Timestamp,
    /// Readers find nothing before this moment of the boot clock.
    pub(super) withheld_until: Option<Duration>,
    /// Boot-clock nanoseconds before which no reader reports that the end is near. The reader that reports
    /// sets it to the maximum, so that one message is sent, not one a read; the actor sets it back when the
    /// flight that came of it has failed.
    pub(super) quiet_until: AtomicU64,
}

impl<C: Copies> Published<C> {
    pub(super) fn new(token: &Token, margins: Margins, withheld_until: Option<Duration>) -> Self {
        let end = token.end();
        let before = |margin: Duration| Timestamp {
            boot: end.boot.saturating_sub(margin),
            wall: end.wall.checked_sub(margin).unwrap_or(SystemTime::UNIX_EPOCH),
        };
        Self {
            margins,
            withheld_until,
            usable_until: before(margins.min_validity),
            near_end_from: before(margins.ahead),
            quiet_until: AtomicU64::new(0),
            copies: C::of(token),
        }
    }
}

impl Published<Replicas> {
    /// This thread's.
    #[inline]
    pub(super) fn replica(&self) -> &Replica {
        // std's also under loom: the number orders nothing, and loom's atomics cannot be made before a model runs.
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local!(static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed) % REPLICAS);
        &self.copies.0[NUMBER.with(|number| *number)]
    }
}

impl<C> Published<C> {
    /// Whether the token is usable now, and whether this reader is the one to report that the token's end is near, or
    /// past. Both clocks must agree that it is usable; either may say that the end is near.
    pub(super) fn at(&self, now: Timestamp) -> (bool, bool) {
        if now.boot >= self.usable_until.boot || now.wall >= self.usable_until.wall {
            return (false, self.is_first_to_report(now.boot));
        }
        if self.withheld_until.is_some_and(|until| now.boot < until) {
            return (false, false);
        }
        let near = now.boot >= self.near_end_from.boot || now.wall >= self.near_end_from.wall;
        (true, near && self.is_first_to_report(now.boot))
    }

    /// Whether it is usable for so long, by both clocks.
    pub(super) fn lasts(&self, time: Duration, now: Timestamp) -> bool {
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

/// A token with the moments until which no reader has to think: it is usable, not withheld, and its end is not near.
#[cfg(feature = "registry")]
#[derive(Debug)]
pub(crate) struct Calm {
    pub(crate) token: Token,
    /// On the boot clock, in nanoseconds, a second before that moment.
    pub(crate) boot: u64,
    /// The same on the wall clock, since 1970.
    pub(crate) wall: u64,
}

#[cfg(feature = "registry")]
impl Published<Single> {
    /// `None` if it is withheld.
    pub(crate) fn calm(&self) -> Option<Calm> {
        let until =
            |one: Duration, other: Duration| nanos(one.min(other).saturating_sub(super::EXACT_WITHIN));
        let since_1970 = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (usable, near) = (self.usable_until, self.near_end_from);
        self.withheld_until.is_none().then(|| Calm {
            token: self.copies.token().clone(),
            boot: until(usable.boot, near.boot),
            wall: until(since_1970(usable.wall), since_1970(near.wall)),
        })
    }
}

pub(crate) fn nanos(moment: Duration) -> u64 {
    u64::try_from(moment.as_nanos()).unwrap_or(u64::MAX)
}
