//! One row of the table.

use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::hot;
use crate::measured::Outcome;
use crate::peer::{Failure, Peer, Read};
use crate::source::Source;
use crate::trouble;

type Hot = Box<dyn Fn(usize, Duration) -> Option<f64>>;
type Trouble = Box<dyn Fn(usize) -> Pin<Box<dyn Future<Output = Outcome>>>>;

pub struct Row {
    pub name: &'static str,
    pub note: &'static str,
    pub kind: Kind,
    hot: Option<Hot>,
    trouble: Option<Trouble>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ours,
    Peer,
    Primitive,
}

struct ByGet<P>(P);

impl<P: Peer> Read for ByGet<P> {
    async fn read(&self) {
        // Its result is dropped here, as at the end of a request.
        let _ = black_box(self.0.get().await);
    }
}

impl Row {
    /// A peer, with a token for its hot reads.
    pub async fn peer<P: Peer>(kind: Kind) -> Result<Self, Failure> {
        let hot = if P::KEEPS { Some(Self::hot_get::<P>().await?) } else { None };
        let trouble: Trouble = Box::new(|case| Box::pin(trouble::case::<P>(case)));
        Ok(Self { name: P::NAME, note: P::NOTE, kind, hot, trouble: Some(trouble) })
    }

    /// For a row whose reads are another row's.
    pub fn without_reads(self) -> Self {
        Self { hot: None, ..self }
    }

    /// Only read.
    pub fn read(name: &'static str, note: &'static str, kind: Kind, read: impl Read) -> Self {
        let read = Arc::new(read);
        let hot: Hot = Box::new(move |threads, time| hot::measure(&read, threads, time));
        Self { name, note, kind, hot: Some(hot), trouble: None }
    }

    async fn hot_get<P: Peer>() -> Result<Hot, Failure> {
        let source = Source::default();
        let peer = P::new(source.clone()).await?;
        let token = peer.get().await?;
        // A figure for the wrong thing would be worse than none.
        assert_eq!(P::number(&token), source.calls(), "{}: not the source's token", P::NAME);
        let read = Arc::new(ByGet(peer));
        Ok(Box::new(move |threads, time| hot::measure(&read, threads, time)))
    }

    /// Nanoseconds a read; nothing for what keeps no token.
    pub fn hot(&self, threads: usize, time: Duration) -> Option<f64> {
        self.hot.as_ref()?(threads, time)
    }

    pub fn has_trouble(&self) -> bool {
        self.trouble.is_some()
    }

    /// What a case costs; nothing for what is only read.
    pub async fn trouble(&self, case: usize) -> Option<Outcome> {
        match &self.trouble {
            Some(trouble) => Some(trouble(case).await),
            None => None,
        }
    }
}
