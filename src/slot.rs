//! The published token: written by the actor, read by every handle without a lock.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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

/// A token with the moments at which it is to be refreshed and no longer to be used, on both clocks.
#[derive(Debug)]
struct Published {
    token: Token,
    usable_until: Timestamp,
    near_end_from: Timestamp,
    /// Boot-clock nanoseconds before which no reader reports that the end is near. The reader that reports
    /// sets it to the maximum, so that one message is sent, not one a read; the actor sets it back when the
    /// flight that came of it has failed.
    quiet_until: AtomicU64,
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
    pub(crate) fn read(&self) -> Option<(Token, bool)> {
        let published = self.published.load();
        let published = published.as_ref()?;
        let now = self.clock.now();
        // Both clocks must agree that it is usable; either may say that the end is near.
        if now.boot >= published.usable_until.boot || now.wall >= published.usable_until.wall {
            return None;
        }
        let near = now.boot >= published.near_end_from.boot || now.wall >= published.near_end_from.wall;
        Some((published.token.clone(), near && published.is_first_to_report(now.boot)))
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
            Some(current) if !current.token.same_secret(token) => {}
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
        let plain = token.as_ref().map(|(token, _)| token.clone());
        self.published.store(token.map(|(token, margins)| Arc::new(Published::new(token, margins))));
        // An observer's waker is foreign code, and must not take the actor with it.
        let _ = catch_unwind(AssertUnwindSafe(|| self.watch.send_replace(plain)));
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
    fn new(token: Token, margins: Margins) -> Self {
        let end = token.end();
        let before = |margin: Duration| Timestamp {
            boot: end.boot.saturating_sub(margin),
            wall: end.wall.checked_sub(margin).unwrap_or(SystemTime::UNIX_EPOCH),
        };
        Self {
            usable_until: before(margins.min_validity),
            near_end_from: before(margins.ahead),
            quiet_until: AtomicU64::new(0),
            token,
        }
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
