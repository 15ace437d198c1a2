//! A request's body that is kept while it is sent, so that the body can be sent again.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Notify;

/// An API may answer before it has read the body. Then its client has this time to drop the body.
const LET_GO_WITHIN: Duration = Duration::from_secs(1);

/// A request's body while it is sent: as the caller made it, and kept up to a limit.
///
/// It consists of the frames of the caller's body. If it is dropped before its end, the rest is put back, so that
/// it can be sent again.
pub struct KeptBody<B> {
    /// `None` when the body has ended, or all of it is kept.
    rest: Option<Pin<Box<B>>>,
    /// The kept part of an earlier sending, before the rest.
    replayed: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    /// The remaining size, as far as the caller's body knows it.
    size: SizeHint,
    shelf: Option<Arc<Shelf<B>>>,
}

/// The place where the body is kept.
struct Shelf<B> {
    state: Mutex<State<B>>,
    changed: Notify,
}

struct State<B> {
    kept: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    /// How much more may be kept. `None`: the body was too long.
    room: Option<usize>,
    /// The part that was not read when the sending ended.
    rest: Option<Pin<Box<B>>>,
    size: SizeHint,
    /// Whether the client is reading it.
    is_out: bool,
    has_ended: bool,
    has_failed: bool,
}

/// The adaptor's reference to the body while it is sent.
pub(super) struct Keeper<B>(Arc<Shelf<B>>);

impl<B: Body> Keeper<B> {
    /// Keeps up to `limit` bytes of this body. The second value is sent.
    pub(super) fn new(body: B, limit: usize) -> (Self, KeptBody<B>) {
        let (size, has_ended) = (body.size_hint(), body.is_end_stream());
        // A body that is known to be too long is not kept at all.
        let fits = size.lower() <= limit as u64;
        let rest = (!has_ended).then(|| Box::pin(body));
        let state = State {
            kept: VecDeque::new(),
            trailers: None,
            room: (fits || has_ended).then_some(limit),
            rest,
            size,
            is_out: false,
            has_ended,
            has_failed: false,
        };
        let keeper = Self(Arc::new(Shelf { state: Mutex::new(state), changed: Notify::new() }));
        let body = keeper.hand_out();
        (keeper, body)
    }

    /// Whether the whole body was sent.
    pub(super) fn was_read(&self) -> bool {
        self.0.lock().has_ended
    }

    /// Waits briefly until the client no longer reads the body. Returns whether the body can be sent again.
    pub(super) async fn can_repeat(&self) -> bool {
        let free = async {
            loop {
                let changed = self.0.changed.notified();
                if self.0.lock().is_decided() {
                    return;
                }
                changed.await;
            }
        };
        let _ = tokio::time::timeout(LET_GO_WITHIN, free).await;
        let state = self.0.lock();
        state.is_decided() && state.can_repeat()
    }

    /// The same body once more.
    pub(super) fn again(&self) -> Option<KeptBody<B>> {
        let can_repeat = self.0.lock().can_repeat();
        can_repeat.then(|| self.hand_out())
    }

    fn hand_out(&self) -> KeptBody<B> {
        let mut state = self.0.lock();
        state.is_out = !state.has_ended;
        KeptBody {
            rest: state.rest.take(),
            replayed: state.kept.clone(),
            trailers: if state.has_ended { state.trailers.clone() } else { None },
            size: state.size,
            shelf: Some(Arc::clone(&self.0)),
        }
    }
}

impl<B> State<B> {
    /// Whether it is known now if the body can be sent again.
    fn is_decided(&self) -> bool {
        !self.is_out || self.room.is_none() || self.has_failed
    }

    fn can_repeat(&self) -> bool {
        self.room.is_some() && !self.has_failed && (self.has_ended || self.rest.is_some())
    }

    fn keep(&mut self, data: &Bytes) {
        self.room = self.room.and_then(|room| room.checked_sub(data.len()));
        // There may be any number of empty frames.
        if data.is_empty() {
            return;
        }
        if self.room.is_some() {
            self.kept.push_back(data.clone());
        } else {
            self.kept = VecDeque::new();
        }
    }
}

impl<B> Shelf<B> {
    fn lock(&self) -> std::sync::MutexGuard<'_, State<B>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes the task that waits for it.
    fn note(&self, note: impl FnOnce(&mut State<B>)) {
        note(&mut self.lock());
        self.changed.notify_waiters();
    }
}

impl<B: Body> KeptBody<B> {
    /// A body that is not kept.
    pub(super) fn once(body: B) -> Self {
        let size = body.size_hint();
        let rest = (!body.is_end_stream()).then(|| Box::pin(body));
        Self { rest, replayed: VecDeque::new(), trailers: None, size, shelf: None }
    }

    /// Records that this much has been read.
    fn shrink(&mut self, by: usize) {
        let left = |length: u64| length.saturating_sub(by as u64);
        let (lower, upper) = (left(self.size.lower()), self.size.upper().map(left));
        self.size = SizeHint::new();
        self.size.set_lower(lower);
        if let Some(upper) = upper {
            self.size.set_upper(upper);
        }
    }

    fn ended(&mut self) {
        self.rest = None;
        if let Some(shelf) = &self.shelf {
            shelf.note(|state| (state.has_ended, state.is_out) = (true, false));
        }
    }
}

impl<B: Body> Body for KeptBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        if let Some(data) = this.replayed.pop_front() {
            this.shrink(data.len());
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let Some(rest) = &mut this.rest else {
            return Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
        };
        let frame = match ready!(rest.as_mut().poll_frame(cx)) {
            None => {
                this.ended();
                return Poll::Ready(None);
            }
            Some(Err(error)) => {
                this.rest = None;
                if let Some(shelf) = &this.shelf {
                    shelf.note(|state| (state.has_failed, state.is_out) = (true, false));
                }
                return Poll::Ready(Some(Err(error)));
            }
            Some(Ok(frame)) => frame,
        };
        let frame = frame.map_data(|mut data| data.copy_to_bytes(data.remaining()));
        if let Some(shelf) = &this.shelf {
            let (data, trailers) = (frame.data_ref(), frame.trailers_ref());
            shelf.note(|state| match (data, trailers) {
                (Some(data), _) => state.keep(data),
                (_, trailers) => state.trailers = trailers.cloned(),
            });
        }
        this.shrink(frame.data_ref().map_or(0, Bytes::len));
        // A reader that knows the length does not poll for the end.
        if frame.is_trailers() || this.rest.as_ref().is_some_and(Body::is_end_stream) {
            this.ended();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.replayed.is_empty() && self.rest.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.size
    }
}

impl<B> Drop for KeptBody<B> {
    fn drop(&mut self) {
        if let (Some(shelf), Some(rest)) = (&self.shelf, self.rest.take()) {
            shelf.note(|state| (state.rest, state.is_out) = (Some(rest), false));
        }
    }
}

impl<B> fmt::Debug for KeptBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptBody").field("size", &self.size).finish_non_exhaustive()
    }
}
