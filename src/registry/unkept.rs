//! Discarded tokens of keys that are not kept. They are discarded in the key when the key is made.

use std::collections::VecDeque;

use crate::token::Token;

/// The maximum number of remembered tokens. Beyond it one that has expired is forgotten, otherwise the oldest.
const MOST: usize = 256;

pub(super) struct Unkept<K>(VecDeque<Discarded<K>>);

/// A discarded token of a key. The hash is compared first, because a key may be long.
struct Discarded<K> {
    hash: u64,
    key: K,
    token: Token,
    /// The key's machine has counted each discard, before the key was removed.
    is_counted: bool,
}

impl<K: Eq> Unkept<K> {
    pub(super) fn new() -> Self {
        Self(VecDeque::new())
    }

    pub(super) fn remember(&mut self, hash: u64, key: K, token: Token, is_counted: bool) {
        let same = |known: &&mut Discarded<K>| known.is_of(hash, &key) && known.token.is_same(&token);
        if let Some(known) = self.0.iter_mut().find(same) {
            known.is_counted &= is_counted;
            return;
        }
        if self.0.len() >= MOST {
            let expired = |known: &Discarded<K>| known.token.remaining().is_some_and(|left| left.is_zero());
            self.0.remove(self.0.iter().position(expired).unwrap_or_default());
        }
        self.0.push_back(Discarded { hash, key, token, is_counted });
    }

    pub(super) fn knows(&self, hash: u64, key: &K, token: &Token) -> bool {
        self.0.iter().any(|known| known.is_of(hash, key) && known.token.is_same(token))
    }

    /// The tokens of this key, and whether each was counted.
    pub(super) fn take(&mut self, hash: u64, key: &K) -> Vec<(Token, bool)> {
        let mut taken = Vec::new();
        if self.0.is_empty() {
            return taken;
        }
        for known in std::mem::take(&mut self.0) {
            if known.is_of(hash, key) {
                taken.push((known.token, known.is_counted));
            } else {
                self.0.push_back(known);
            }
        }
        taken
    }
}

impl<K: Eq> Discarded<K> {
    fn is_of(&self, hash: u64, key: &K) -> bool {
        self.hash == hash && self.key == *key
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn remember(unkept: &mut Unkept<u32>, key: u32, token: Token) {
        unkept.remember(u64::from(key % 2), key, token, false);
    }

    #[test]
    fn each_key_gets_its_own_and_there_is_a_limit() {
        let mut unkept = Unkept::new();
        (0..300_u32).for_each(|number| remember(&mut unkept, number % 2, Token::new(number.to_string())));
        let taken = unkept.take(0, &0);
        assert_eq!(taken.len(), MOST / 2);
        assert_eq!(taken[0].0.secret(), "44", "the oldest are forgotten");
        assert!(unkept.take(0, &0).is_empty() && unkept.take(1, &7).is_empty());
        assert_eq!(unkept.take(1, &1).len(), MOST / 2);
    }

    #[test]
    fn a_discard_that_no_machine_has_counted_is_left_for_the_next_one_to_count() {
        let mut unkept = Unkept::new();
        for is_counted in [true, false, true] {
            unkept.remember(1, 1, Token::new("bad"), is_counted);
        }
        let taken: Vec<_> = unkept.take(1, &1).into_iter().map(|(_, is_counted)| is_counted).collect();
        assert_eq!(taken, [false]);
    }

    #[test]
    fn a_token_has_one_place_and_one_that_has_expired_gives_its_place_up_first() {
        let mut unkept = Unkept::new();
        for number in 0..MOST {
            let life = Duration::from_secs(if number == 3 { 0 } else { 3_600 });
            remember(&mut unkept, 1, Token::new(number.to_string()).with_lifetime(life));
            remember(&mut unkept, 1, Token::new("0"));
        }
        assert_eq!(unkept.0.len(), MOST);
        remember(&mut unkept, 2, Token::new("new"));
        assert!(unkept.knows(1, &1, &Token::new("0")), "the oldest has not expired");
        assert!(!unkept.knows(1, &1, &Token::new("3")));
        assert!(unkept.knows(0, &2, &Token::new("new")) && !unkept.knows(1, &1, &Token::new("new")));
    }
}
