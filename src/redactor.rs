//! Makes text that others wrote fit for a log: one printable line, cut, without secrets.

use zeroize::Zeroizing;

/// Takes secrets out of text that a server wrote: some servers repeat what they were sent.
#[derive(Clone, Default)]
pub(crate) struct Redactor(Vec<Zeroizing<String>>);

impl Redactor {
    /// Hides this text from now on. The caller adds each form in which the secret was sent.
    pub(crate) fn hide(&mut self, text: Zeroizing<String>) {
        if !text.is_empty() && !self.0.contains(&text) {
            self.0.push(text);
        }
        // An encoded form may hold the plain one; the longest goes first, so that nothing of it is left.
        self.0.sort_by_key(|text| std::cmp::Reverse(text.len()));
    }

    /// One printable line of at most `limit` bytes, without the secrets.
    pub(crate) fn clean(&self, text: &str, limit: usize) -> String {
        // Before and after the invisible is replaced: either may be what makes the secret readable.
        let hidden = self.replaced(text);
        let line = printable(&hidden, usize::MAX);
        printable(&self.replaced(&line), limit)
    }

    fn replaced(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| without(&text, secret))
    }
}

/// Replaces a secret, and a secret whose end was cut off: some servers cut what they repeat.
fn without(text: &str, secret: &str) -> String {
    /// In characters. A shorter piece says little, and may be a word of the text.
    const PIECE: usize = 16;
    let piece = secret.char_indices().nth(PIECE).map_or(secret, |(end, _)| &secret[..end]);
    let (mut clean, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(piece) {
        clean.push_str(&rest[..at]);
        clean.push_str("[redacted]");
        let same = rest[at..].chars().zip(secret.chars()).take_while(|(one, other)| one == other);
        rest = &rest[at + same.map(|(one, _)| one.len_utf8()).sum::<usize>()..];
    }
    clean.push_str(rest);
    clean
}

/// Text from outside, fit for one line of a log: ASCII, nothing invisible, at most `limit` bytes.
pub(crate) fn printable(text: &str, limit: usize) -> String {
    let visible = |char: char| if char == ' ' || char.is_ascii_graphic() { char } else { '?' };
    let mut clean: String = text.chars().take(limit.saturating_add(1)).map(visible).collect();
    if clean.len() > limit {
        clean.truncate(limit);
        clean.push_str("...");
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_redactor_finds_every_form() {
        let mut redactor = Redactor::default();
        for form in ["p&w", "p%26w", ""] {
            redactor.hide(Zeroizing::new(form.to_owned()));
        }
        assert_eq!(redactor.clean("bad secret p&w\nfrom p%26w", 80), "bad secret [redacted]?from [redacted]");
        assert_eq!(Redactor::default().clean("abcdef", 3), "abc...");
    }

    #[test]
    fn a_secret_whose_end_was_cut_off_is_found() {
        let mut redactor = Redactor::default();
        redactor.hide(Zeroizing::new("0123456789abcdef-and-more".to_owned()));
        assert_eq!(redactor.clean("`0123456789abcdef-an`, `x`", 80), "`[redacted]`, `x`");
        assert_eq!(redactor.clean("`0123456789abcde`", 80), "`0123456789abcde`", "too short to say much");
    }
}
