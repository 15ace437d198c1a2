//! The published token: written by the actor and by handles, read by every handle without a lock.
//!
//! Readers load one atomic pointer. Writers take turns at a *desk*, a lock. Therefore a publication and a report
//! cannot cross. `docs/reports.md` has the order of the steps.

mod desk;
mod observers;
mod published;

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::policy::{Margins, WITHHELD_AT_MOST};
use crate::sync::{ArcSwapOption, AtomicBool, AtomicU64, Mutex, Ordering, lock};
use crate::token::Token;

pub(crate) use desk::Report;
pub use observers::TokenWatch;
#[cfg(feature = "registry")]
pub(crate) use published::{Calm, Single};
pub(crate) use published::{Copies, Front, Published, Replicas, nanos};

use desk::Desk;
use observers::Observers;
use published::Replica;

/// The value that readers read. An actor's slot has a [copy for each group of readers](Replicas), and observers. A
/// slot of a registry's key has [one copy](Single).
#[derive(Debug)]
pub(crate) struct Slot<C: Copies = Replicas> {
    published: ArcSwapOption<Published<C>>,
    /// Held by a writer while it writes.
    desk: Mutex<Desk>,
    /// Whether there are reports on the desk.
    has_reports: AtomicBool,
    /// Whether a secret was ever discarded.
    has_discarded: AtomicBool,
    /// The moment on the boot clock from which a report may have an effect, as the actor said last.
    reports_from: AtomicU64,
    /// Tells observers that the desk shows another secret.
    observers: C::Observers,
    clock: Arc<dyn Clock>,
}

/// In this last part of its life a token is checked against the exact time: the longest length of a
/// [pulse](Clock::pulse).
const EXACT_WITHIN: Duration = Duration::from_secs(1);

/// The result of a read. Two words, which are returned in registers.
#[derive(Debug)]
pub(crate) struct Read {
    /// The token, if it is usable.
    pub(crate) token: Option<Token>,
    /// Whether this reader must report that the token's end is near, or past.
    pub(crate) reports: bool,
}

/// The reads of an actor's handles.
impl Slot {
    /// The token, if it is usable.
    ///
    /// Most reads find that the token has been checked in the present [pulse](Clock::pulse). Then they need no
    /// exact time. Reading the exact time costs four times as much as all the rest.
    #[inline]
    pub(crate) fn read(&self) -> Read {
        let published = self.published.load();
        let Some(published) = published.as_ref() else { return Read { token: None, reports: false } };
        let replica = published.replica();
        let pulse = self.clock.pulse().map_or(0, NonZeroU64::get);
        // Relaxed is enough: the number protects no other memory.
        if pulse != 0 && replica.checked.load(Ordering::Relaxed) == pulse {
            return Read { token: Some(replica.token.clone()), reports: false };
        }
        self.check(published, replica, pulse)
    }

    /// Reads the exact time. `pulse` was read before. Therefore a change between the two reads is either part of
    /// the exact time, or it has started another pulse. Later in this pulse less than a second passes, and the
    /// token is usable for at least a second.
    #[cold]
    fn check(&self, published: &Published<Replicas>, replica: &Replica, pulse: u64) -> Read {
        let now = self.clock.now();
        let (usable, reports) = published.at(now);
        if usable && published.lasts(EXACT_WITHIN, now) {
            replica.checked.store(pulse, Ordering::Relaxed);
        }
        Read { token: usable.then(|| replica.token.clone()), reports }
    }
}

/// The reads of one key among many, if the [front](Front) before the slot is not enough.
#[cfg(feature = "registry")]
impl Slot<Single> {
    /// The token, if it is usable. The exact time is read.
    #[cold]
    pub(crate) fn read_exactly(&self) -> Read {
        let published = self.published.load();
        let Some(published) = published.as_ref() else { return Read { token: None, reports: false } };
        let (usable, reports) = published.at(self.clock.now());
        Read { token: usable.then(|| published.copies.token().clone()), reports }
    }
}

/// The functions of writers. Each takes the front before the slot.
impl<C: Copies> Slot<C> {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            published: ArcSwapOption::empty(),
            desk: Mutex::default(),
            has_reports: AtomicBool::new(false),
            has_discarded: AtomicBool::new(false),
            reports_from: AtomicU64::new(0),
            observers: C::Observers::default(),
            clock,
        }
    }

    /// From now on readers find this token, or none.
    ///
    /// There may be a report on the desk that the machine does not know yet. If it names this secret, its mark is
    /// kept: the token is withheld for the time of the report, or is not published.
    pub(crate) fn publish(&self, token: Option<(Token, Margins)>, front: &dyn Front<C>) {
        let mut desk = lock(&self.desk);
        let token = token.filter(|(token, _)| !desk.is_discarded(token));
        let published = token
            .as_ref()
            .map(|(token, margins)| Arc::new(Published::new(token, *margins, desk.withheld_until(token))));
        self.expose(published, front);
        let changed = desk.show(token.map(|(token, _)| token));
        drop(desk);
        self.tell_observers(changed);
    }

    /// Readers find no token before this moment.
    pub(crate) fn withhold(&self, until: Duration, front: &dyn Front<C>) {
        let _desk = lock(&self.desk);
        self.mark(Some(until), front);
    }

    /// Readers find the token again, unless a report about it is on the desk.
    pub(crate) fn release(&self, front: &dyn Front<C>) {
        let desk = lock(&self.desk);
        let current = self.published.load();
        if let Some(published) = current.as_ref().filter(|published| published.withheld_until.is_some()) {
            self.mark(desk.withheld_until(published.copies.token()), front);
        }
    }

    /// The API rejected `token`. Returns whether the caller must send the actor a message that names the token.
    /// That is so if the token is not the one in use here (the actor may still hold a token that readers no longer
    /// find), or if a report about it is on the desk.
    pub(crate) fn invalidate(&self, token: &Token, front: &dyn Front<C>) -> bool {
        let mut desk = lock(&self.desk);
        let current = self.published.load();
        let Some(published) = current.as_ref().filter(|it| it.copies.token().is_same(token)) else {
            return true;
        };
        if desk.reports.iter().any(|report| report.is_invalidation_of(token)) {
            return true;
        }
        let now = self.clock.now().boot;
        let may = nanos(now) >= self.reports_from.load(Ordering::Relaxed);
        let until = may.then(|| now.saturating_add(WITHHELD_AT_MOST));
        if may && published.withheld_until.is_none_or(|until| until <= now) {
            self.mark(until, front);
        }
        self.lay(&mut desk, Report::Invalidate { token: token.clone(), until });
        false
    }

    /// `token` is compromised: from now on no reader finds it.
    pub(crate) fn discard(&self, token: &Token, front: &dyn Front<C>) {
        let mut desk = lock(&self.desk);
        let current = self.published.load();
        let mut changed = false;
        if current.as_ref().is_some_and(|published| published.copies.token().is_same(token)) {
            self.expose(None, front);
            changed = desk.show(None);
        }
        desk.remember_discarded(token);
        self.has_discarded.store(true, Ordering::Release);
        self.lay(&mut desk, Report::Discard(token.clone()));
        drop(desk);
        self.tell_observers(changed);
    }

    /// `token` was discarded before this slot was made.
    #[cfg(feature = "registry")]
    pub(crate) fn recall(&self, token: &Token) {
        let mut desk = lock(&self.desk);
        desk.recall(token);
        self.has_discarded.store(true, Ordering::Release);
        self.has_reports.store(true, Ordering::Release);
    }

    /// Whether the token was discarded, also while a caller waited for it.
    ///
    /// First the secret is remembered. Then the flag is set. Then `discard` returns. Therefore a caller that knows of
    /// the discard sees the flag. A crowd that is woken needs no lock for this, as long as nothing was discarded.
    pub(crate) fn is_discarded(&self, token: &Token) -> bool {
        self.has_discarded.load(Ordering::Acquire) && lock(&self.desk).is_discarded(token)
    }

    /// The discarded tokens, and whether the machine knows of each.
    #[cfg(feature = "registry")]
    pub(crate) fn discarded(&self) -> Vec<(Token, bool)> {
        if !self.has_discarded.load(Ordering::Acquire) {
            return Vec::new();
        }
        let desk = lock(&self.desk);
        let of_token = |token: &Token| (token.clone(), !desk.has_discard_of(token));
        desk.discarded().map(of_token).collect()
    }

    /// Whether there are reports that the machine does not know yet.
    pub(crate) fn has_reports(&self) -> bool {
        self.has_reports.load(Ordering::Acquire)
    }

    /// The reports that the machine does not know yet.
    ///
    /// First a handle lays its report on the desk. Then it sets the flag. Then it sends the actor a message. The
    /// actor calls this function before each event. Therefore the actor has the report before any event that was
    /// sent after the report.
    pub(crate) fn take_reports(&self) -> Vec<Report> {
        if !self.has_reports() {
            return Vec::new();
        }
        let mut desk = lock(&self.desk);
        self.has_reports.store(false, Ordering::Relaxed);
        std::mem::take(&mut desk.reports)
    }

    fn lay(&self, desk: &mut Desk, report: Report) {
        if !desk.takes(&report) {
            return;
        }
        desk.reports.push(report);
        self.has_reports.store(true, Ordering::Release);
    }

    /// The moment from which a report may have an effect. This is a hint for handles, which must not withhold a
    /// token if the machine will refuse the report. If the hint is slightly old, the token is withheld for a
    /// moment.
    pub(crate) fn reports_from(&self, moment: Duration) {
        let moment = nanos(moment);
        if self.reports_from.load(Ordering::Relaxed) != moment {
            self.reports_from.store(moment, Ordering::Relaxed);
        }
    }

    /// Before this moment no reader reports that the end is near.
    ///
    /// The desk must be held. Otherwise a handle that marks the token could copy the old moment, and then replace
    /// the publication in which the new moment has just been stored. Then no reader would ever report again.
    pub(crate) fn quiet_until(&self, moment: Duration) {
        let _desk = lock(&self.desk);
        if let Some(published) = self.published.load().as_ref() {
            published.quiet_until.store(nanos(moment), Ordering::Relaxed);
        }
    }

    /// The actor has ended.
    ///
    /// The end is stored and the token is withdrawn under one lock. Therefore an observer that sees the end also
    /// sees that there is no token.
    pub(crate) fn close(&self, front: &dyn Front<C>) {
        let mut desk = lock(&self.desk);
        desk.closed = true;
        self.expose(None, front);
        desk.show(None);
        drop(desk);
        self.tell_observers(true);
    }

    /// The same token, withheld or not. The caller holds the desk.
    fn mark(&self, until: Option<Duration>, front: &dyn Front<C>) {
        let current = self.published.load();
        let Some(published) = current.as_ref().filter(|published| published.withheld_until != until) else {
            return;
        };
        let marked = Published::new(published.copies.token(), published.margins, until);
        marked.quiet_until.store(published.quiet_until.load(Ordering::Relaxed), Ordering::Relaxed);
        self.expose(Some(Arc::new(marked)), front);
    }

    /// The value that readers read from now on. The caller holds the desk.
    fn expose(&self, published: Option<Arc<Published<C>>>, front: &dyn Front<C>) {
        self.published.store(published);
        front.show(self.published.load().as_deref());
    }

    /// An observer's waker is foreign code. Therefore it is woken after the desk is released.
    fn tell_observers(&self, changed: bool) {
        if changed {
            self.observers.tell();
        }
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }
}

#[cfg(test)]
mod tests;
