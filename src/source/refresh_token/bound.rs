//! The key to which a login's tokens are bound (`DPoP`, RFC 9449 section 5).
//!
//! A public client's refresh token is bound to the key with which it was requested: it cannot be used with another
//! key. A confidential client's refresh token is not bound, but the access token beside it is.

use super::Inner;
use crate::oauth::dpop::DpopKey;
use crate::token::Token;
use crate::transport::printable;
use crate::vault::{Record, VaultError};

impl<V> Inner<V> {
    /// The first generation of a login of this client at its server.
    pub(super) fn first(&self, refresh_token: &str) -> Result<Record, VaultError> {
        let record = Record::first(refresh_token, self.client.name_of_server(), self.client.id())?;
        Ok(self.bound(record, self.client.dpop_key()))
    }

    /// The record of tokens that were requested with this key. A generated key is stored in the record of a refresh
    /// token that is bound to it. Therefore the next process can continue.
    pub(super) fn bound(&self, record: Record, key: Option<&DpopKey>) -> Record {
        let generated = key.and_then(DpopKey::generated).filter(|_| !self.client.is_confidential());
        record.bound_to(key.map(DpopKey::thumbprint), generated)
    }

    /// The key with which the record's refresh token is sent. `known`: a key that was found in a record before.
    pub(super) fn key(
        &self,
        record: &Record,
        known: &mut Option<DpopKey>,
    ) -> Result<Option<DpopKey>, String> {
        let own = self.client.dpop_key();
        let Some(bound_to) = record.thumbprint() else { return Ok(own.cloned()) };
        if self.client.is_confidential() || own.is_some_and(|own| own.thumbprint() == bound_to) {
            return Ok(own.cloned());
        }
        let may_be_another = own.is_some_and(|own| own.generated().is_some());
        if let Some(pem) = record.private_key().filter(|_| may_be_another) {
            if known.as_ref().is_none_or(|known| known.thumbprint() != bound_to) {
                *known = DpopKey::found(pem).ok();
            }
            if let Some(known) = known.as_ref().filter(|known| known.thumbprint() == bound_to) {
                return Ok(Some(known.clone()));
            }
        }
        let this = own.map_or("this client has none".to_owned(), |own| {
            format!("this client has the key {:?}", own.thumbprint())
        });
        Err(format!(
            "the refresh token in the vault is bound to the DPoP key {:?}, and {this}: nothing was sent; set `dpop` to that \
             key, or log in anew",
            printable(bound_to, 80)
        ))
    }
}

/// The access token of a record, with its key. `None`: the token is bound to another key.
pub(super) fn with_key(token: Token, record: &Record, key: Option<&DpopKey>) -> Option<Token> {
    match key {
        Some(key) if token.is_bound() => {
            (record.thumbprint() == Some(key.thumbprint())).then(|| key.bind(token))
        }
        // A client with bound tokens accepts no others, and a bound token cannot be used without its key.
        Some(_) => None,
        None => (!token.is_bound()).then_some(token),
    }
}
