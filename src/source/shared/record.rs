//! The sealed records in the store beside the token: leases, pauses, and marks of refused credentials.
//!
//! The end in a record is a moment of the store's clock. Therefore the store's own statement is not needed. A
//! record that does not open, or has ended, counts as absent.

use std::time::Duration;

use super::seal::{KeyRing, Purpose};
use crate::duration::millis;
use crate::store::SharedKey;

const LENGTH: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// The fence of this lease, or of the lease under which the failure happened.
    pub(super) fence: u64,
    /// The end, by the store's clock, since 1970.
    pub(super) ends: Duration,
    /// The number of failures in a row.
    pub(super) failures: u32,
}

impl Record {
    /// `None`: no randomness is available.
    pub(super) fn seal(self, ring: &KeyRing, place: &SharedKey, purpose: Purpose<'_>) -> Option<Vec<u8>> {
        let ends = millis(self.ends).to_be_bytes();
        let text = [&self.fence.to_be_bytes()[..], &ends, &self.failures.to_be_bytes()].concat();
        ring.seal(place, purpose, &text)
    }

    /// `None`: no holder of the key has written it, or it has another purpose.
    pub(super) fn open(
        ring: &KeyRing,
        place: &SharedKey,
        purpose: Purpose<'_>,
        value: &[u8],
    ) -> Option<Self> {
        let text = ring.open(place, purpose, value).ok()?;
        let text: &[u8; LENGTH] = text.as_slice().try_into().ok()?;
        let (fence, rest) = text.split_first_chunk::<8>()?;
        let (ends, failures) = rest.split_first_chunk::<8>()?;
        Some(Self {
            fence: u64::from_be_bytes(*fence),
            ends: Duration::from_millis(u64::from_be_bytes(*ends)),
            failures: u32::from_be_bytes(failures.try_into().ok()?),
        })
    }
}
