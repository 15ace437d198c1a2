//! Gives `fuzz/` access to the private parsers, and checks properties that must hold for any input. This module is
//! not part of the public interface. It exists only under `--cfg fuzzing`, and in this crate's own tests, which
//! replay `fuzz/corpus` and change it at random.
//!
//! Each function takes bytes and panics if a property is broken. The properties: the library itself never panics,
//! an error is one line of bounded length without a secret, and no lifetime overflows. The functions for the shared
//! store's parsers are beside these parsers, in `source/shared/fuzzing.rs` and `store/redis/fuzzing.rs`.
#![allow(clippy::missing_panics_doc)]

mod answers;
mod challenges;
mod documents;
#[cfg(feature = "dpop")]
mod dpop;
mod keys;
mod settings;
mod vault;

use std::time::Duration;

use serde_json::Value;

#[cfg(feature = "redis")]
pub use crate::source::shared::fuzzing::{envelope, record, sealed};
#[cfg(feature = "redis")]
pub use crate::store::redis::fuzzing::{address, script_answer};
pub use answers::{json_answer, retry_after, token_answer};
pub use challenges::challenge;
pub use documents::discovery;
#[cfg(feature = "dpop")]
pub use dpop::dpop;
pub use keys::pem;
pub use settings::{duration, settings};
pub use vault::vault_record;

/// Marks for secrets in the corpus. If a mark is only in secret places, no error may contain it.
const MARKS: [&str; 2] = ["s3cret", "471147"];

/// The longest error that a server can cause.
const LONGEST_ERROR: usize = 1_000;

const HUNDRED_YEARS: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

#[track_caller]
fn assert_hides(error: &impl ToString, secrets: &[&str]) {
    let text = error.to_string();
    for secret in secrets {
        assert!(!text.contains(secret), "{text}");
    }
}

/// The marks that are in `secrets`, and not in `shown`.
fn only_in(secrets: &str, shown: &str) -> Vec<&'static str> {
    MARKS.into_iter().filter(|mark| secrets.contains(mark) && !shown.contains(mark)).collect()
}

/// Removes these fields, and returns their text.
fn take(value: &mut Value, fields: &[&str]) -> String {
    let taken = fields.iter().filter_map(|field| value.as_object_mut()?.remove(*field));
    taken.map(|value| value.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    type Target = (&'static str, fn(&[u8]));

    const TARGETS: &[Target] = &[
        ("token_answer", token_answer),
        ("json_answer", json_answer),
        ("retry_after", retry_after),
        ("settings", settings),
        ("duration", duration),
        ("pem", pem),
        ("discovery", discovery),
        ("vault_record", vault_record),
        ("challenge", challenge),
        #[cfg(feature = "dpop")]
        ("dpop", dpop),
        #[cfg(feature = "redis")]
        ("sealed", sealed),
        #[cfg(feature = "redis")]
        ("envelope", envelope),
        #[cfg(feature = "redis")]
        ("record", record),
        #[cfg(feature = "redis")]
        ("script_answer", script_answer),
        #[cfg(feature = "redis")]
        ("address", address),
    ];

    /// `None`: a published package has no such folder.
    fn folder() -> Option<PathBuf> {
        Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")).filter(|folder| folder.exists())
    }

    fn entries(folder: &Path) -> Vec<PathBuf> {
        let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        entries
    }

    fn stems(folder: &Path) -> BTreeSet<String> {
        let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        entries(folder).into_iter().map(stem).collect()
    }

    /// Runs on any toolchain, and without a fuzzer.
    #[test]
    fn the_corpus_holds() {
        let Some(folder) = folder() else { return };
        let names: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        for place in ["fuzz_targets", "corpus"] {
            let found = stems(&folder.join(place));
            assert!(found.is_superset(&names), "{place}: {found:?}");
            let is_all = cfg!(all(feature = "redis", feature = "dpop"));
            assert!(found == names || !is_all, "{place}: {found:?}");
        }
        for (name, target) in TARGETS {
            let seeds = entries(&folder.join("corpus").join(name));
            assert!(seeds.len() >= 10, "{name} has {} seeds", seeds.len());
            for seed in seeds {
                println!("{}", seed.display()); // Printed if the test fails.
                target(&fs::read(&seed).unwrap());
            }
        }
    }

    /// A fuzzer finds more, but this test runs each time. The changes are the same in each run.
    #[test]
    fn the_corpus_holds_when_it_is_changed_at_random() {
        const TIMES: usize = 12;
        let Some(folder) = folder() else { return };
        for (name, target) in TARGETS {
            let seeds: Vec<_> = entries(&folder.join("corpus").join(name))
                .into_iter()
                .map(|seed| (seed.display().to_string(), fs::read(seed).unwrap()))
                .collect();
            let mut random = fastrand::Rng::with_seed(1);
            for (path, seed) in &seeds {
                for _ in 0..TIMES {
                    let (_, other) = &seeds[random.usize(..seeds.len())];
                    let changed = change(seed, other, &mut random);
                    println!("{path}, changed: {:?}", String::from_utf8_lossy(&changed));
                    target(&changed);
                }
            }
        }
    }

    /// One to four changes of the kinds that a fuzzer makes.
    fn change(seed: &[u8], other: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..random.usize(1..=4) {
            let at = random.usize(..=bytes.len());
            match random.u8(..6) {
                0 => bytes.insert(at, random.u8(..)),
                1 => bytes.truncate(at),
                2 => drop(bytes.drain(at..bytes.len().min(at + 4))),
                // The rest of another seed.
                3 => {
                    bytes.truncate(at);
                    bytes.extend_from_slice(&other[random.usize(..=other.len())..]);
                }
                4 => bytes.extend_from_within(at..),
                _ => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << random.u8(..8);
                    }
                }
            }
        }
        bytes
    }

    #[test]
    fn a_mark_in_a_secret_place_alone_may_not_be_shown() {
        assert_eq!(only_in(r#"{"client_secret":"s3cret"}"#, "unknown field"), ["s3cret"]);
        assert!(only_in("s3cret", "shown s3cret").is_empty());
    }
}
