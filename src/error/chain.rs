//! An error with its causes: as one line of text, and searched by type.

use std::error::Error as StdError;
use std::sync::Arc;
use std::{io, iter};

use super::{SourceError, TokenError};

type AnyError = dyn StdError + 'static;

/// Longer chains are cut, because an error may name itself as its source.
const MAX_LINKS: usize = 32;

/// The text of `error` and of each of its sources, each part once, fit for one line of a log.
pub(super) fn one_line(error: &AnyError) -> String {
    let mut text = printable(&error.to_string());
    for cause in iter::successors(error.source(), |cause| (*cause).source()).take(MAX_LINKS) {
        let part = printable(&cause.to_string());
        if !says(&text, &part) {
            text.push_str(": ");
            text.push_str(&part);
        }
    }
    text
}

/// The first error of type `T` among `error` and its causes.
pub(super) fn find<T: StdError + 'static>(error: &AnyError) -> Option<&T> {
    links(error).find_map(|error| error.downcast_ref())
}

/// `error` and its causes.
pub(super) fn links(error: &AnyError) -> impl Iterator<Item = &AnyError> {
    iter::successors(Some(error), |error| inner(*error)).take(MAX_LINKS)
}

/// The next error in the chain. The errors of this crate have no `source()`, since their text holds the text of
/// their causes. An `io::Error` skips the error in it.
fn inner(error: &AnyError) -> Option<&AnyError> {
    if let Some(error) = error.downcast_ref::<TokenError>() {
        return error.inner.cause.as_ref().map(|cause| cause as _);
    }
    if let Some(error) = error.downcast_ref::<SourceError>() {
        return Some(error.origin());
    }
    let custom = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    custom.map(|custom| custom as _).or_else(|| error.source())
}

/// Whether `part` is in `text` as a separate word. As a part of a longer word or number it does not count: "1" is
/// not in "10s".
fn says(text: &str, part: &str) -> bool {
    text.match_indices(part).any(|(at, _)| {
        let before = text[..at].chars().next_back().zip(part.chars().next());
        let after = part.chars().next_back().zip(text[at + part.len()..].chars().next());
        let splits = |pair: Option<(char, char)>| {
            pair.is_some_and(|(left, right)| left.is_alphanumeric() && right.is_alphanumeric())
        };
        !splits(before) && !splits(after)
    })
}

/// A name on one line of a log, whatever characters it has.
pub(crate) fn printable_name(name: &Arc<str>) -> Arc<str> {
    let shown = printable(name);
    if *shown == **name { Arc::clone(name) } else { shown.into() }
}

/// Escapes line breaks, other control characters, and marks that change the direction of text.
pub(super) fn printable(text: &str) -> String {
    let breaks_lines = |char| matches!(char, '\u{2028}' | '\u{2029}');
    let turns_text = |char| matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut line = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() || breaks_lines(char) || turns_text(char) {
            line.extend(char.escape_default());
        } else {
            line.push(char);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    /// An error with this text and this source.
    #[derive(Debug)]
    struct Link(&'static str, Option<Box<Link>>);

    impl fmt::Display for Link {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl StdError for Link {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            self.1.as_ref().map(|link| &**link as _)
        }
    }

    fn chain(texts: &[&'static str]) -> Link {
        let mut links = texts.iter().rev();
        let last = Link(links.next().unwrap(), None);
        links.fold(last, |source, text| Link(text, Some(Box::new(source))))
    }

    #[test]
    fn each_part_of_a_chain_is_said_once() {
        for (texts, line) in [
            (&["a"][..], "a"),
            (&["cannot connect", "refused"], "cannot connect: refused"),
            (&["cannot connect: refused", "refused"], "cannot connect: refused"),
            (&["a: b: c", "b: c", "c"], "a: b: c"),
            (&["a: c", "b", "c"], "a: c: b"),
            (&["refused", "refused"], "refused"),
            (&["no answer in 10s", "1"], "no answer in 10s: 1"),
            (&["unsent", "sent"], "unsent: sent"),
            (&["status 503 (busy)", "503"], "status 503 (busy)"),
            (&["a", ""], "a"),
        ] {
            assert_eq!(one_line(&chain(texts)), line);
        }
    }

    #[test]
    fn no_part_of_a_chain_can_begin_a_line_of_its_own() {
        let error = chain(&["a\r\nb\t\u{1b}[31m", "c\u{2028}d\u{85}\u{202e}e", "schön \"und\" c:\\temp"]);
        let line = r#"a\r\nb\t\u{1b}[31m: c\u{2028}d\u{85}\u{202e}e: schön "und" c:\temp"#;
        assert_eq!(one_line(&error), line);
    }

    #[test]
    fn a_name_stays_on_its_line() {
        let shown = |name: &str| printable_name(&name.into());
        assert_eq!(&*shown("orders é"), "orders é");
        assert_eq!(&*shown("a\nWARN b\u{2028}c\u{202e}d\u{1b}[2K"), r"a\nWARN b\u{2028}c\u{202e}d\u{1b}[2K");
    }

    #[test]
    fn an_error_that_names_itself_as_its_source_ends() {
        #[derive(Debug)]
        struct Circle;
        impl fmt::Display for Circle {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("round")
            }
        }
        impl StdError for Circle {
            fn source(&self) -> Option<&(dyn StdError + 'static)> {
                Some(self)
            }
        }
        assert_eq!(one_line(&Circle), "round");
        assert!(find::<Link>(&Circle).is_none());
    }

    #[test]
    fn a_cause_is_found_behind_the_errors_of_this_crate_and_of_io() {
        let link = || SourceError::transient(chain(&["far", "away"]));
        let told = TokenError::flight_failed(link(), 1, std::time::Duration::ZERO);
        assert_eq!(told.cause::<Link>().unwrap().0, "far");
        // One actor's error as the cause of another's.
        let chained = SourceError::terminal(io::Error::other(told));
        assert_eq!(chained.cause::<Link>().unwrap().0, "far");
        assert!(chained.cause::<TokenError>().unwrap().is_unavailable());
        assert!(chained.cause::<io::Error>().is_some() && chained.cause::<fmt::Error>().is_none());
    }
}
