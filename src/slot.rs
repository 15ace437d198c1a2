//! The published token: written by the actor and by handles, read by every handle without a lock.
//!
//! Readers load one atomic pointer. Writers take turns at a *desk*, so that a publication and a report cannot cross.
//! `docs/reports.md` has the order of the steps.

mod desk;
mod observers;

use std::array::from_fn;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, SystemTime};

use crate::clock::{Clock, Timestamp};
use crate::panics::contain;
use crate::policy::{Margins, WITHHELD_AT_MOST};
use crate::sync::{ArcSwapOption, AtomicBool, AtomicU64, Mutex, Ordering, lock, watch};
use crate::token::Token;

pub(crate) use desk::Report;
pub use observers::TokenWatch;

use desk::Desk;

/// What readers find.
#[derive(Debug)]
pub(crate) struct Slot {
    published: ArcSwapOption<Published>,
    /// Held by whoever writes, and only then.
    desk: Mutex<Desk>,
    /// Whether there are reports on the desk.
    has_reports: AtomicBool,
    /// The moment on the boot clock from which on a report may do something; the actor's latest word.
    reports_from: AtomicU64,
    /// Tells observers that the desk shows another secret.
    changes: watch::Sender<()>,
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
    margins: Margins,
    usable_until: Timestamp,
    near_end_from: Timestamp,
    /// Readers find nothing before this moment of the boot clock.
    withheld_until: Option<Duration>,
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

/// What a reader found. Two words, which are returned in registers.
#[derive(Debug)]
pub(crate) struct Read {
    /// The token, if it is usable.
    pub(crate) token: Option<Token>,
    /// Whether this reader is the one to report that the token's end is near, or past.
    pub(crate) reports: bool,
}

impl Slot {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            published: ArcSwapOption::empty(),
            desk: Mutex::default(),
            has_reports: AtomicBool::new(false),
            reports_from: AtomicU64::new(0),
            changes: watch::Sender::new(()),
            clock,
        }
    }

    /// The token, if it is usable.
    ///
    /// Most reads find that the token has been checked in this very [pulse](Clock::pulse), and need not take the
    /// time, which costs four times as much as all the rest.
    #[inline]
    pub(crate) fn read(&self) -> Read {
        let published = self.published.load();
        let Some(published) = published.as_ref() else { return Read { token: None, reports: false } };
        let replica = published.replica();
        let pulse = self.clock.pulse().map_or(0, NonZeroU64::get);
        // Relaxed is enough: the number guards no other memory.
        if pulse != 0 && replica.checked.load(Ordering::Relaxed) == pulse {
            return Read { token: Some(replica.token.clone()), reports: false };
        }
        self.check(published, replica, pulse)
    }

    /// Takes the time. `pulse` was read before, so that what has happened between is in the time that is taken,
    /// or else there is another pulse by now. And whatever happens later in this pulse, it is less than a second
    /// that passes, and so the token is good.
    #[cold]
    fn check(&self, published: &Published, replica: &Replica, pulse: u64) -> Read {
        let now = self.clock.now();
        // Both clocks must agree that it is usable; either may say that the end is near.
        if now.boot >= published.usable_until.boot || now.wall >= published.usable_until.wall {
            return Read { token: None, reports: published.is_first_to_report(now.boot) };
        }
        if published.withheld_until.is_some_and(|until| now.boot < until) {
            return Read { token: None, reports: false };
        }
        if published.lasts(EXACT_WITHIN, now) {
            replica.checked.store(pulse, Ordering::Relaxed);
        }
        let near = now.boot >= published.near_end_from.boot || now.wall >= published.near_end_from.wall;
        let reports = near && published.is_first_to_report(now.boot);
        Read { token: Some(replica.token.clone()), reports }
    }

    /// From now on readers find this token, or none.
    ///
    /// A report may lie on the desk that the machine has not heard of. If it names this very secret, its mark is kept:
    /// the token is withheld as long as the report asks for, or is not published.
    pub(crate) fn publish(&self, token: Option<(Token, Margins)>) {
        let mut desk = lock(&self.desk);
        let token = token.filter(|(token, _)| !desk.is_discarded(token));
        let published = token
            .as_ref()
            .map(|(token, margins)| Arc::new(Published::new(token, *margins, desk.withheld_until(token))));
        self.published.store(published);
        let changed = desk.show(token.map(|(token, _)| token));
        drop(desk);
        self.tell_observers(changed);
    }

    /// Readers find no token before this moment.
    pub(crate) fn withhold(&self, until: Duration) {
        let _desk = lock(&self.desk);
        self.mark(Some(until));
    }

    /// Readers find the token again, unless a report about it lies on the desk.
    pub(crate) fn release(&self) {
        let desk = lock(&self.desk);
        let current = self.published.load();
        if let Some(published) = current.as_ref().filter(|published| published.withheld_until.is_some()) {
            self.mark(desk.withheld_until(&published.replicas[0].token));
        }
    }

    /// The API rejected `token`. Returns whether the actor has to be told by a message that names it: it is not the
    /// one in use here (what readers no longer find, the actor may still hold), or a report about it lies here.
    pub(crate) fn invalidate(&self, token: &Token) -> bool {
        let mut desk = lock(&self.desk);
        let current = self.published.load();
        let Some(published) = current.as_ref().filter(|it| it.replicas[0].token.is_same(token)) else {
            return true;
        };
        if desk.reports.iter().any(|report| report.is_invalidation_of(token)) {
            return true;
        }
        let now = self.clock.now().boot;
        let may = nanos(now) >= self.reports_from.load(Ordering::Relaxed);
        let until = may.then(|| now.saturating_add(WITHHELD_AT_MOST));
        if may && published.withheld_until.is_none_or(|until| until <= now) {
            self.mark(until);
        }
        self.lay(&mut desk, Report::Invalidate { token: token.clone(), until });
        false
    }

    /// `token` is compromised: from here on nobody finds it.
    pub(crate) fn discard(&self, token: &Token) {
        let mut desk = lock(&self.desk);
        let current = self.published.load();
        let mut changed = false;
        if current.as_ref().is_some_and(|published| published.replicas[0].token.is_same(token)) {
            self.published.store(None);
            changed = desk.show(None);
        }
        desk.remember_discarded(token);
        self.lay(&mut desk, Report::Discard(token.clone()));
        drop(desk);
        self.tell_observers(changed);
    }

    /// Whether it was discarded, also while a caller waited for it.
    pub(crate) fn is_discarded(&self, token: &Token) -> bool {
        lock(&self.desk).is_discarded(token)
    }

    /// Whether there are reports that the machine has not heard of.
    pub(crate) fn has_reports(&self) -> bool {
        self.has_reports.load(Ordering::Acquire)
    }

    /// The reports that the machine has not heard of.
    ///
    /// A handle first lays its report on the desk, then sets the flag, then sends the actor a message. Therefore the
    /// actor, which asks before each event, has the report before any event that was sent after it.
    pub(crate) fn take_reports(&self) -> Vec<Report> {
        if !self.has_reports() {
            return Vec::new();
        }
        let mut desk = lock(&self.desk);
        self.has_reports.store(false, Ordering::Relaxed);
        std::mem::take(&mut desk.reports)
    }

    fn lay(&self, desk: &mut Desk, report: Report) {
        desk.reports.push(report);
        self.has_reports.store(true, Ordering::Release);
    }

    /// The moment from which on a report may do something. A hint for handles, which must not withhold a token where
    /// the machine will say no. A hint that is old by a moment costs a moment.
    pub(crate) fn reports_from(&self, moment: Duration) {
        let moment = nanos(moment);
        if self.reports_from.load(Ordering::Relaxed) != moment {
            self.reports_from.store(moment, Ordering::Relaxed);
        }
    }

    /// Before this moment no reader reports that the end is near.
    ///
    /// The desk is held. Otherwise a handle that marks the token could copy the old moment, and then replace the
    /// publication in which the new one has just been noted: no reader would ever report again.
    pub(crate) fn quiet_until(&self, moment: Duration) {
        let _desk = lock(&self.desk);
        if let Some(published) = self.published.load().as_ref() {
            published.quiet_until.store(nanos(moment), Ordering::Relaxed);
        }
    }

    /// The actor has ended.
    ///
    /// The end is noted and the token is withdrawn under one lock. Therefore an observer that sees the end also sees
    /// that there is no token.
    pub(crate) fn close(&self) {
        let mut desk = lock(&self.desk);
        desk.closed = true;
        self.published.store(None);
        desk.show(None);
        drop(desk);
        self.tell_observers(true);
    }

    /// The same token, withheld or not. The caller holds the desk.
    fn mark(&self, until: Option<Duration>) {
        let current = self.published.load();
        let Some(published) = current.as_ref().filter(|published| published.withheld_until != until) else {
            return;
        };
        let marked = Published::new(&published.replicas[0].token, published.margins, until);
        marked.quiet_until.store(published.quiet_until.load(Ordering::Relaxed), Ordering::Relaxed);
        self.published.store(Some(Arc::new(marked)));
    }

    /// An observer's waker is foreign code: it is woken when the desk is free, and must not take the actor with it.
    fn tell_observers(&self, changed: bool) {
        if changed {
            contain(|| self.changes.send_replace(()));
        }
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }
}

impl Published {
    fn new(token: &Token, margins: Margins, withheld_until: Option<Duration>) -> Self {
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
            replicas: from_fn(|_| Replica { token: token.replica(), checked: AtomicU64::new(0) }),
        }
    }

    /// This thread's.
    #[inline]
    fn replica(&self) -> &Replica {
        // std's also under loom: the number orders nothing, and loom's atomics cannot be made before a model runs.
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
mod tests;
