//! Slots that all processes share, in Redis.

use super::{RedisStore, millis};
use crate::store::{SharedKey, SlotAnswer, SlotAsk, StoreError};

impl RedisStore {
    pub(super) async fn ask_for_slots(
        &self,
        key: &SharedKey,
        ask: &SlotAsk,
    ) -> Result<SlotAnswer, StoreError> {
        let mut script = self.0.scripts.slots.prepare_invoke();
        script.key(self.place(key, "slots")).arg(&ask.owner).arg(ask.wanted).arg(ask.most).arg(ask.slots);
        script.arg(millis(ask.time)).arg(self.channel(key));
        let answer = self.run::<(usize, usize, usize, usize, u8)>(script).await?;
        let (held, free, share, owners, others_want) = answer;
        // For any answer of the store, a process uses at most the requested number.
        let held = held.min(ask.most);
        Ok(SlotAnswer { held, free, share, owners, others_want: others_want == 1 })
    }
}
