//! Discarded tokens of keys that are not kept. They are discarded in the key when the key is made.

use std::collections::VecDeque;

use crate::token::Token;

/// The maximum number of remembered tokens. The oldest is forgotten.
const MOST: usize = 256;

pub(super) struct Unkept<K>(VecDeque<(K, Token)>);

impl<K: Eq> Unkept<K> {
    pub(super) fn new() -> Self {
        Self(VecDeque::new())
    }

    pub(super) fn remember(&mut self, key: K, token: Token) {
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back((key, token));
    }

    pub(super) fn take(&mut self, key: &K) -> Vec<Token> {
        let mut taken = Vec::new();
        if self.0.is_empty() {
            return taken;
        }
        for (other, token) in std::mem::take(&mut self.0) {
            if other == *key {
                taken.push(token);
            } else {
                self.0.push_back((other, token));
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_gets_its_own_and_there_is_a_limit() {
        let mut unkept = Unkept::new();
        (0..300).for_each(|number| unkept.remember(number % 2, Token::new(number.to_string())));
        let taken = unkept.take(&0);
        assert_eq!(taken.len(), MOST / 2);
        assert_eq!(taken[0].secret(), "44", "the oldest are forgotten");
        assert!(unkept.take(&0).is_empty() && unkept.take(&7).is_empty());
        assert_eq!(unkept.take(&1).len(), MOST / 2);
    }
}
