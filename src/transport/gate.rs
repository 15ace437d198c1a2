//! A request whose body waits until its connection is open and the caller releases the body.
//!
//! The body contains a one-time credential. First the name is resolved, the connection is made, and the handshake
//! is done. Then the caller writes that the credential is being sent. Therefore every failure before the sending
//! happens before this write.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

/// Holds a body back. Dropping it aborts the request.
pub(crate) struct Gate {
    connected: oneshot::Receiver<()>,
    open: oneshot::Sender<()>,
}

/// The condition that a body waits for.
pub(crate) struct Held {
    connected: Option<oneshot::Sender<()>>,
    open: oneshot::Receiver<()>,
    /// The body was passed to the connection.
    gone: Arc<AtomicBool>,
}

/// A gate, and the part for the body behind it.
pub(crate) fn gate() -> (Gate, Held) {
    let (tell, connected) = oneshot::channel();
    let (open, opened) = oneshot::channel();
    let held = Held { connected: Some(tell), open: opened, gone: Arc::default() };
    (Gate { connected, open }, held)
}

impl Gate {
    /// Whether the connection is open and waits for the body. Never true if the request fails before.
    pub(crate) fn poll_connected(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match Pin::new(&mut self.connected).poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(()),
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }

    /// Releases the body.
    pub(crate) fn open(self) {
        // If the request has failed meanwhile, its own error says so.
        let _ = self.open.send(());
    }
}

impl Held {
    /// Whether the body was passed to the connection.
    pub(super) fn gone(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.gone)
    }

    /// Holds this body.
    pub(super) fn keep(self, body: Bytes) -> HeldBody {
        HeldBody { body: Some(body), held: self }
    }
}

/// A body behind a gate.
pub(super) struct HeldBody {
    body: Option<Bytes>,
    held: Held,
}

impl Body for HeldBody {
    type Data = Bytes;
    type Error = io::Error;

    /// The connection polls the body when it is open, and not before.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.body.is_none() {
            return Poll::Ready(None);
        }
        if let Some(connected) = self.held.connected.take() {
            let _ = connected.send(());
        }
        let opened = ready!(Pin::new(&mut self.held.open).poll(cx));
        let body = self.body.take();
        if opened.is_err() {
            return Poll::Ready(Some(Err(io::Error::other("the request was given up before it was sent"))));
        }
        self.held.gone.store(true, Ordering::Release);
        Poll::Ready(body.map(|body| Ok(Frame::data(body))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.body.as_ref().map_or(0, |body| body.len() as u64))
    }
}
