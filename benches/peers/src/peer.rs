//! The requirements on a crate in the table.

use std::future::Future;

use crate::source::Source;

/// Why a peer gave no token. The text is for whoever looks into it.
pub type Failure = String;

/// A crate that keeps a token, set up as its documentation says, with its defaults.
pub trait Peer: Sized + Send + Sync + 'static {
    /// Crate, version, and what of it is driven.
    const NAME: &str;
    /// What a reader of its figures has to know.
    const NOTE: &str = "";
    /// Whether the first token is fetched by the first caller, not when it is made.
    const LAZY: bool = true;
    /// Whether it keeps a token, so that there is a read to measure.
    const KEEPS: bool = true;
    /// Whether it can be told that the API answered 401.
    const REJECTS: bool = false;

    /// What a caller is given.
    type Token: Send + 'static;

    fn new(source: Source) -> impl Future<Output = Result<Self, Failure>>;

    /// A token for a request: read, waited for, or fetched.
    fn get(&self) -> impl Future<Output = Result<Self::Token, Failure>> + Send;

    /// Which of the source's tokens it is.
    fn number(token: &Self::Token) -> u64;

    /// A request sent with the present token, whose answer has not come yet.
    fn send_request(&self) -> impl Future<Output = Result<Self::Token, Failure>> + Send {
        self.get()
    }

    /// The answer to that request has come: 401.
    fn rejected(&self, _request: Self::Token) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// Something that can be read again and again.
pub trait Read: Send + Sync + 'static {
    /// One read. What was read is dropped.
    fn read(&self) -> impl Future<Output = ()> + Send;
}
