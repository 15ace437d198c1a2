//! The published value: a token with its moments, in as many copies as its readers need.

use std::array::from_fn;
use std::fmt::Debug;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, SystemTime};

use super::observers::Observers;
use crate::clock::Timestamp;
use crate::policy::Margins;
use crate::sync::{AtomicU64, Ordering, watch};
use crate::token::Token;

/// The copies of one token, from which readers clone.
pub(crate) trait Copies: Debug + Sized {
    /// The observers of this kind of slot.
    type Observers: Observers;

    fn of(token: &Token) -> Self;

    fn token(&self) -> &Token;
}

/// The state that readers read before the slot.
pub(crate) trait Front<C> {
    /// The value that readers find from now on. The slot's desk is held, so the calls come one after the other.
    fn show(&self, published: Option<&Published<C>>);
}

/// No state before the slot.
impl<C> Front<C> for () {
    fn show(&self, _: Option<&Published<C>>) {}
}

/// The number of readers that can clone tokens without touching the same cache line.
///
/// If two processors count the clones of the same token, each waits for the other: 58 ns per read, against 13 ns on
/// one processor. With a replica for each, a read on two processors costs the same as on one. More replicas do not
/// help a program that also works with its tokens.
const REPLICAS: usize = 8;

/// A copy for each of some groups of threads.
#[derive(Debug)]
pub(crate) struct Replicas([Replica; REPLICAS]);

/// The token, for one of some groups of threads. In its own cache lines: the processor fetches two of them
/// together.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Replica {
    pub(super) token: Token,
    /// The pulse in which the exact time was read and the token was usable for at least a second; or zero.
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

/// One copy for all readers. A registry's readers are spread over many keys.
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

/// A token with two moments on both clocks: when it is to be refreshed, and when it is no longer to be used.
#[derive(Debug)]
pub(crate) struct Published<C> {
    pub(super) copies: C,
    pub(super) margins: Margins,
    usable_until: Timestamp,
    near_end_from: Timestamp,
    /// Readers find no token before this moment of the boot clock.
    pub(super) withheld_until: Option<Duration>,
    /// Boot-clock nanoseconds before which no reader reports that the end is near. The reader that reports sets
    /// this to the maximum. Therefore one message is sent, and not one per read. The actor resets it when the
    /// flight for this report has failed.
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
    /// The number of this thread.
    #[inline]
    pub(super) fn replica(&self) -> &Replica {
        // std's also under loom: the number orders no memory, and loom's atomics cannot be made before a model
        // runs.
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local!(static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed) % REPLICAS);
        &self.copies.0[NUMBER.with(|number| *number)]
    }
}

impl<C> Published<C> {
    /// Whether the token is usable now, and whether this reader must report that the token's end is near, or past.
    /// The token is usable only if both clocks agree. Its end is near if one clock says so.
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

    /// Whether the token is usable for this time, by both clocks.
    pub(super) fn lasts(&self, time: Duration, now: Timestamp) -> bool {
        now.boot.saturating_add(time) < self.usable_until.boot
            && now.wall.checked_add(time).is_some_and(|then| then < self.usable_until.wall)
    }

    /// Relaxed is enough: the flag protects no other memory. A report that is lost or doubled in a race with the
    /// actor's own store costs one message.
    fn is_first_to_report(&self, now: Duration) -> bool {
        let until = self.quiet_until.load(Ordering::Relaxed);
        until <= nanos(now)
            && self
                .quiet_until
                .compare_exchange(until, u64::MAX, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

/// A token with the moments until which readers need no further check: it is usable, not withheld, and its end is
/// not near.
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
