//! A request whose body waits until its connection stands, and somebody lets it go.
//!
//! What may be sent only once stands in the body. So everything that can go wrong before it is sent (a name that is not
//! found, a connection, a handshake) has gone wrong before anybody has to write that it is being sent.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

/// Keeps a body back. Dropped, it breaks the request off.
pub(crate) struct Gate {
    connected: oneshot::Receiver<()>,
    open: oneshot::Sender<()>,
}

/// What a body waits for.
pub(crate) struct Held {
    connected: Option<oneshot::Sender<()>>,
    open: oneshot::Receiver<()>,
    /// The body has been handed to the connection.
    gone: Arc<AtomicBool>,
}

/// A gate, and what the body behind it is given.
pub(crate) fn gate() -> (Gate, Held) {
    let (tell, connected) = oneshot::channel();
    let (open, opened) = oneshot::channel();
    let held = Held { connected: Some(tell), open: opened, gone: Arc::default() };
    (Gate { connected, open }, held)
}

impl Gate {
    /// Whether the connection stands, and the body is waited for. Never, if the request fails before.
    pub(crate) fn poll_connected(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match Pin::new(&mut self.connected).poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(()),
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }

    /// Lets the body go.
    pub(crate) fn open(self) {
        // A request that has failed meanwhile says so itself.
        let _ = self.open.send(());
    }
}

impl Held {
    /// Says whether the body has been handed to the connection.
    pub(super) fn gone(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.gone)
    }

    /// Keeps this body.
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

    /// The connection asks for the body when it stands, and not before.
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
