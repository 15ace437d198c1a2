//! The evidence of the middlewares about the tokens of keys. A middleware may be made for each request. Therefore the
//! registry keeps the evidence.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Weak};

use crate::evidence::Evidence;

/// The number of keys whose evidence is kept though no middleware holds it.
const MOST: usize = 1_024;

/// The evidence of a key is kept as long as a middleware or a request holds it. The evidence of the keys that were
/// used last is kept without that.
pub(super) struct Evidences<K> {
    known: HashMap<K, Known>,
    /// The keys whose evidence is kept without a holder. The oldest is first.
    line: VecDeque<K>,
    /// With so many keys the ones without evidence are removed.
    swept_at: usize,
}

struct Known {
    evidence: Weak<Evidence>,
    kept: Option<Arc<Evidence>>,
    /// It was used since it came to the end of the line.
    is_used: bool,
}

impl<K: Hash + Eq + Clone> Evidences<K> {
    pub(super) fn new() -> Self {
        Self { known: HashMap::new(), line: VecDeque::new(), swept_at: 2 * MOST }
    }

    /// The evidence of this key. It is made if there is none.
    pub(super) fn of(&mut self, key: &K, make: impl FnOnce() -> Evidence) -> Arc<Evidence> {
        if let Some(known) = self.known.get_mut(key)
            && let Some(evidence) = known.evidence.upgrade()
        {
            known.is_used = true;
            if known.kept.is_none() {
                known.kept = Some(Arc::clone(&evidence));
                self.line_up(key);
            }
            return evidence;
        }
        let evidence = Arc::new(make());
        let kept = Some(Arc::clone(&evidence));
        let known = Known { evidence: Arc::downgrade(&evidence), kept, is_used: false };
        self.known.insert(key.clone(), known);
        self.line_up(key);
        if self.known.len() >= self.swept_at {
            self.known.retain(|_, known| known.evidence.strong_count() > 0);
            self.swept_at = (2 * self.known.len()).max(2 * MOST);
        }
        evidence
    }

    /// Puts the key at the end of the line. If the line is too long, the first key that was not used leaves it.
    fn line_up(&mut self, key: &K) {
        self.line.push_back(key.clone());
        if self.line.len() <= MOST {
            return;
        }
        // The mark of each key that stays is cleared. Therefore the second pass finds a key.
        for _ in 0..=2 * MOST {
            let Some(first) = self.line.pop_front() else { return };
            let Some(known) = self.known.get_mut(&first) else { return };
            if !std::mem::take(&mut known.is_used) {
                return drop(known.kept.take());
            }
            self.line.push_back(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::policy::RefreshPolicy;

    fn evidence() -> Evidence {
        Evidence::new("acme".into(), RefreshPolicy::default().settle_rule(), Arc::new(SystemClock))
    }

    #[test]
    fn all_who_ask_for_a_key_share_its_evidence() {
        let mut all = Evidences::new();
        let held = all.of(&0, evidence);
        for key in 1..10_000_u32 {
            all.of(&key, evidence);
            assert!(all.known.len() <= 3 * MOST && all.line.len() <= MOST);
            if key % 100 == 0 {
                // A key that is used again and again stays.
                let before = all.known[&1].kept.clone().map(|kept| Arc::as_ptr(&kept));
                assert_eq!(before, Some(Arc::as_ptr(&all.of(&1, evidence))));
            }
        }
        assert!(Arc::ptr_eq(&held, &all.of(&0, evidence)), "a middleware holds it");
        assert!(all.known.get(&2).is_none_or(|known| known.evidence.strong_count() == 0), "forgotten");
    }
}
