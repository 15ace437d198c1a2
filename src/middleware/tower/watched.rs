//! An answer's body whose first frame may have been read in advance, and whose end may contain a rejection of the
//! token.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::GRPC_STATUS;
use crate::middleware::passage::Passage;
use crate::middleware::replay::Code;

/// A stream may have no message for a long time. Its head must not wait for a message.
const FIRST_FRAME_WITHIN: Duration = Duration::from_secs(1);

/// The body of an answer, with the service's own frames.
pub struct AnswerBody<B: Body> {
    inner: B,
    first: First<B>,
    watch: Option<Box<Watch>>,
}

/// The frame that was read in advance.
enum First<B: Body> {
    Nothing,
    Frame(Result<Frame<B::Data>, B::Error>),
    End,
}

/// The state for a gRPC answer without a status yet.
struct Watch {
    passage: Passage,
    /// A message has arrived, so the token was accepted.
    was_accepted: bool,
}

impl<B: Body + Unpin> AnswerBody<B> {
    pub(super) fn plain(inner: B) -> Self {
        Self { inner, first: First::Nothing, watch: None }
    }

    /// The status at the body's end is passed to this passage.
    pub(super) fn watched(mut self, passage: Passage) -> Self {
        let was_accepted = self.has_message();
        self.watch = Some(Box::new(Watch { passage, was_accepted }));
        self
    }

    /// Waits for the first frame with data or a status, but only briefly.
    pub(super) async fn peek(&mut self) {
        let inner = &mut self.inner;
        let first = async {
            loop {
                match poll_fn(|cx| Pin::new(&mut *inner).poll_frame(cx)).await {
                    // Some servers send an empty frame before the status.
                    Some(Ok(frame)) if frame.is_data() && !has_data(&frame) => {}
                    frame => return frame,
                }
            }
        };
        let frame = tokio::time::timeout(FIRST_FRAME_WITHIN, first);
        self.first = match frame.await {
            Ok(Some(frame)) => First::Frame(frame),
            Ok(None) => First::End,
            Err(_) => First::Nothing,
        };
    }

    pub(super) fn first_trailers(&self) -> Option<&HeaderMap> {
        match &self.first {
            First::Frame(Ok(frame)) => frame.trailers_ref(),
            _ => None,
        }
    }

    pub(super) fn has_message(&self) -> bool {
        matches!(&self.first, First::Frame(Ok(frame)) if has_data(frame))
    }
}

fn has_data<D: Buf>(frame: &Frame<D>) -> bool {
    frame.data_ref().is_some_and(Buf::has_remaining)
}

/// No field is pinned.
impl<B: Body + Unpin> Unpin for AnswerBody<B> {}

impl Watch {
    fn sees<D: Buf>(&mut self, frame: &Frame<D>) {
        if has_data(frame) && !std::mem::replace(&mut self.was_accepted, true) {
            self.passage.was_accepted();
        }
        let status = frame.trailers_ref().and_then(|trailers| trailers.get(GRPC_STATUS));
        if status.is_some_and(|status| Code::parse(status.as_bytes()) == Code::Unauthenticated) {
            self.passage.was_rejected_late();
        }
    }
}

impl<B: Body + Unpin> Body for AnswerBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = &mut *self;
        match std::mem::replace(&mut this.first, First::Nothing) {
            First::Frame(frame) => return Poll::Ready(Some(frame)),
            First::End => {
                this.first = First::End;
                return Poll::Ready(None);
            }
            First::Nothing => {}
        }
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        if let (Some(Ok(frame)), Some(watch)) = (&frame, &mut this.watch) {
            watch.sees(frame);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.first {
            First::Nothing => self.inner.is_end_stream(),
            First::Frame(_) => false,
            First::End => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.first {
            First::Nothing => self.inner.size_hint(),
            // The inner body's hint no longer counts the frame that was read.
            First::Frame(_) => SizeHint::default(),
            First::End => SizeHint::with_exact(0),
        }
    }
}

impl<B: Body> fmt::Debug for AnswerBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerBody").field("is_watched", &self.watch.is_some()).finish_non_exhaustive()
    }
}
