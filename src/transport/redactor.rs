//! Takes secrets out of what others wrote.

use zeroize::Zeroizing;

/// Takes secrets out of text that a server wrote: some repeat what they were sent.
#[derive(Clone, Default)]
pub(crate) struct Redactor(Vec<Zeroizing<String>>);

impl Redactor {
    /// Hides this text from now on, in each of the forms in which it was sent.
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
        let line = super::printable(&hidden, usize::MAX);
        super::printable(&self.replaced(&line), limit)
    }

    fn replaced(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "[redacted]"))
    }
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
}
