//! Replaces `dpop` if the feature is off: a type of key without values.

use std::convert::Infallible;
use std::time::SystemTime;

use serde::de::{Deserialize, Deserializer, Error};

use crate::error::{BuildError, SourceError};
use crate::token::Token;
use crate::transport::{Answer, Endpoint, Request};

use super::jws::Algorithm;

#[derive(Clone, Debug)]
pub(crate) struct DpopKey(Infallible);

impl DpopKey {
    pub(crate) fn thumbprint(&self) -> &str {
        match self.0 {}
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        match self.0 {}
    }

    pub(crate) fn generated(&self) -> Option<&str> {
        match self.0 {}
    }

    pub(crate) fn found(_pem: &str) -> Result<Self, BuildError> {
        Err(BuildError::new("dpop", "needs tokenflight's feature `dpop`"))
    }

    pub(crate) fn bind(&self, _token: Token) -> Token {
        match self.0 {}
    }
}

pub(crate) struct ClientProofs(DpopKey);

pub(crate) struct SentNonce(Infallible);

/// The value in a settings file, which is refused.
#[derive(Clone, Debug)]
pub(crate) struct DpopSetting(Infallible);

impl DpopSetting {
    pub(crate) fn open(self) -> Result<DpopKey, BuildError> {
        match self.0 {}
    }

    #[cfg(feature = "registry")]
    pub(crate) fn is_file(&self) -> bool {
        match self.0 {}
    }
}

impl<'de> Deserialize<'de> for DpopSetting {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(Error::custom("`dpop` needs tokenflight's feature `dpop`"))
    }
}

impl ClientProofs {
    pub(crate) fn new(key: DpopKey) -> Self {
        Self(key)
    }

    pub(crate) fn key(&self) -> &DpopKey {
        &self.0
    }

    pub(crate) fn prove(
        &self,
        _key: &DpopKey,
        _request: &mut Request,
        _endpoint: &Endpoint,
        _now: SystemTime,
    ) -> Result<SentNonce, SourceError> {
        match self.0.0 {}
    }

    pub(crate) fn learn(&self, _answer: &Answer, _sent: &SentNonce) -> bool {
        match self.0.0 {}
    }
}
