//! The lobby and the slot under loom, which tests the interleavings of their threads: `./tests/loom/run`.
//!
//! The files are the library's own. Here `crate::sync` has loom's types, or shims over them.

// Directories of `#[path]` begin at this file's own.
#[allow(dead_code, unreachable_pub)] // the library's other files use the rest
#[path = "../../../src"]
mod library {
    pub(crate) mod clock;
    pub(crate) mod error;
    pub(crate) mod lobby;
    pub(crate) mod panics;
    pub(crate) mod queue;
    pub(crate) mod secret;
    pub(crate) mod slot;
    pub(crate) mod token;
}
mod models;
mod stage;
mod sync;

// So that the included files find each other at `crate::`.
use library::{clock, error, lobby, panics, queue, secret, slot, token};

/// Stands for the library's, which needs serde and jiff: the slot takes two names from it.
mod policy {
    use std::time::Duration;

    pub(crate) const WITHHELD_AT_MOST: Duration = Duration::from_secs(1);

    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Margins {
        pub(crate) ahead: Duration,
        pub(crate) min_validity: Duration,
    }
}

/// Stands for the library's: the lobby takes one name from it.
mod flight {
    pub(crate) type Outcome = Result<crate::token::Token, crate::error::TokenError>;
}

/// Runs the models that the arguments name, or all.
fn main() {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let bound = std::env::var("PREEMPTIONS").ok().map(|bound| bound.parse().expect("PREEMPTIONS is a number"));
    let wanted = |model: &&models::Model| names.is_empty() || names.iter().any(|name| name == model.name);
    let wanted: Vec<_> = models::ALL.iter().filter(wanted).collect();
    assert!(wanted.len() >= names.len(), "there is no such model");
    println!("| model | preemptions | interleavings | of these | seconds |\n|---|---|---|---|---|");
    for model in wanted {
        println!("{}", stage::check(model, bound.or(model.preemptions)));
    }
}
