//! Makes foreign text safe for a log: one printable line, cut, without secrets.

#[cfg(feature = "http")]
use base64::Engine;
#[cfg(feature = "http")]
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

mod decoded;

/// Removes secrets from text that a server wrote: some servers repeat the request.
#[derive(Clone, Default)]
pub(crate) struct Redactor {
    secrets: Vec<Zeroizing<String>>,
    /// More text was sent than can be searched.
    hides_all: bool,
}

impl Redactor {
    /// Hides this text from now on. The caller adds each form in which the secret was sent.
    pub(crate) fn hide(&mut self, text: Zeroizing<String>) {
        if !text.is_empty() && !self.secrets.contains(&text) {
            self.secrets.push(text);
        }
        // An encoded form may contain the plain one. Therefore the longest is replaced first, so that nothing of
        // it remains.
        self.secrets.sort_by_key(|text| std::cmp::Reverse(text.len()));
    }

    /// Hides a header's value, and also each part that a server may repeat alone: of `Bearer abc` the part after the
    /// scheme, of HTTP Basic the id with the password, and the password, of `sid=s3cret; theme=dark` and of
    /// `user:s3cret` each long part.
    #[cfg(feature = "http")]
    pub(crate) fn hide_header(&mut self, text: &str) {
        let mut hide = |text: &str| self.hide(Zeroizing::new(text.to_owned()));
        hide(text);
        let mut parts = text;
        if let Some((scheme, credentials)) = text.split_once(' ') {
            let credentials = credentials.trim();
            hide(credentials);
            // The scheme is a word of many explanations.
            if scheme.bytes().all(|byte| byte.is_ascii_alphabetic()) {
                parts = credentials;
            }
            if scheme.eq_ignore_ascii_case("basic")
                && let Ok(pair) = STANDARD_NO_PAD.decode(credentials.trim_end_matches('='))
            {
                let pair = Zeroizing::new(String::from_utf8_lossy(&Zeroizing::new(pair)).into_owned());
                hide(&pair);
                hide(pair.split_once(':').map_or("", |(_id, password)| password));
            }
        }
        self.hide_parts(parts);
    }

    /// Hides a text, and each long part of it that a server may repeat alone.
    #[cfg(feature = "http")]
    pub(crate) fn hide_with_parts(&mut self, text: Zeroizing<String>) {
        self.hide_parts(&text);
        self.hide(text);
    }

    #[cfg(feature = "http")]
    fn hide_parts(&mut self, text: &str) {
        /// In characters. A shorter part may be a word of any explanation.
        const SHORTEST: usize = 6;
        // Each separator belongs to one kind of text. A secret may contain the separator of another kind.
        for separators in [&[';', ',', '=', '"'][..], &[':'], &[':', ' '], &[';', ',', '=', '"', ':', ' ']] {
            let parts = text.split(separators).map(str::trim);
            // A part between spaces may be a word of any explanation too.
            let is_word =
                |part: &str| separators.contains(&' ') && part.bytes().all(|byte| byte.is_ascii_alphabetic());
            for part in parts.filter(|part| part.chars().count() >= SHORTEST && !is_word(part)) {
                self.hide(Zeroizing::new(part.to_owned()));
            }
        }
    }

    /// Hides every text: more was sent than can be searched.
    pub(crate) fn hide_all(&mut self) {
        self.hides_all = true;
    }

    /// The same as [`hide`](Self::hide) for JSON, and for each value in it, because a server may repeat one of them.
    #[cfg(feature = "oauth2")]
    pub(crate) fn hide_json(&mut self, text: &str) {
        const MOST: usize = 64;
        self.hide(Zeroizing::new(text.to_owned()));
        if !text.trim_start().starts_with(['{', '[']) {
            return;
        }
        let mut values = Vec::new();
        match serde_json::from_str(text) {
            Ok(document) => leaves(document, &mut values),
            Err(_) => self.hides_all = true,
        }
        if values.len() > MOST {
            self.hides_all = true;
        } else {
            for value in values {
                self.hide(value);
            }
        }
    }

    /// One printable line of at most `limit` bytes, without the secrets.
    #[cfg(any(test, feature = "redis"))]
    pub(crate) fn clean(&self, text: &str, limit: usize) -> String {
        // Before and after the invisible characters are replaced: each of the two steps may make the secret
        // readable.
        let hidden = self.replaced(text);
        let line = printable(&hidden, usize::MAX);
        printable(&self.replaced(&line), limit)
    }

    /// One printable line of at most `limit` bytes, or nothing if the text contains a secret: plain, or in any
    /// encoding that a reader could decode.
    pub(crate) fn quoted(&self, text: &str, limit: usize) -> Option<String> {
        let line = printable(text, usize::MAX);
        let is_clean = !self.is_in(text) && !self.is_in(&line);
        is_clean.then(|| printable(text, limit))
    }

    /// Whether the text contains one of the secrets, or the beginning or the end of a long one.
    fn is_in(&self, text: &str) -> bool {
        if self.hides_all {
            return true;
        }
        if self.secrets.is_empty() {
            return false;
        }
        let Some(readings) = decoded::readings(text) else { return true };
        let readings: Vec<String> = readings.iter().map(|reading| reading.to_lowercase()).collect();
        self.secrets.iter().any(|secret| {
            let secret = Zeroizing::new(secret.to_lowercase());
            readings.iter().any(|reading| shows(reading, &secret))
        })
    }

    #[cfg(any(test, feature = "redis"))]
    fn replaced(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| without(&text, secret))
    }
}

/// The texts and numbers of a document.
#[cfg(feature = "oauth2")]
fn leaves(value: serde_json::Value, texts: &mut Vec<Zeroizing<String>>) {
    use serde_json::Value;
    match value {
        Value::String(text) => texts.push(Zeroizing::new(text)),
        Value::Number(number) => texts.push(Zeroizing::new(number.to_string())),
        Value::Array(items) => items.into_iter().for_each(|item| leaves(item, texts)),
        Value::Object(fields) => fields.into_iter().for_each(|(_, field)| leaves(field, texts)),
        Value::Null | Value::Bool(_) => {}
    }
}

/// How many characters of the beginning or the end of a secret must not be shown. A shorter piece reveals little,
/// and may be a word of the text.
fn piece(secret: &str) -> usize {
    (secret.chars().count() * 3 / 4).clamp(8, 16)
}

/// Whether the text contains the secret. A very short secret counts only as a separate word, because it is a part
/// of many words.
fn shows(text: &str, secret: &str) -> bool {
    const SHORT: usize = 4;
    if secret.chars().count() < SHORT {
        return text.match_indices(secret).any(|(at, _)| {
            let is_part = |char: Option<char>| char.is_some_and(char::is_alphanumeric);
            !is_part(text[..at].chars().next_back()) && !is_part(text[at + secret.len()..].chars().next())
        });
    }
    let piece = piece(secret);
    let head = secret.char_indices().nth(piece).map_or(secret, |(end, _)| &secret[..end]);
    let tail = secret.char_indices().nth_back(piece - 1).map_or(secret, |(start, _)| &secret[start..]);
    text.contains(head) || text.contains(tail)
}

/// Replaces a secret, and a secret whose end was cut off: some servers cut the text that they repeat.
#[cfg(any(test, feature = "redis"))]
fn without(text: &str, secret: &str) -> String {
    let piece = secret.char_indices().nth(piece(secret)).map_or(secret, |(end, _)| &secret[..end]);
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

/// Foreign text, safe for one line of a log: ASCII, nothing invisible, at most `limit` bytes.
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

    #[cfg(feature = "http")]
    #[test]
    fn a_part_of_a_pair_or_of_a_list_is_hidden_alone() {
        let hiding = |hide: &dyn Fn(&mut Redactor)| {
            let mut redactor = Redactor::default();
            hide(&mut redactor);
            redactor
        };
        for text in [
            "user:s3cret-pass",
            "user: s3cret-pass",
            "Signature user s3cret-pass",
            "Token user:s3cret-pass",
            "sid=s3cret-pass; theme=dark",
            "key=user:s3cret-pass",
            "the user s3cret-pass",
        ] {
            let header = hiding(&|redactor| redactor.hide_header(text));
            let body = hiding(&|redactor| redactor.hide_with_parts(Zeroizing::new(text.to_owned())));
            for redactor in [header, body] {
                assert_eq!(redactor.quoted("s3cret-pass is revoked", 80), None, "{text}");
                assert!(
                    redactor.quoted("the user is unknown", 80).is_some(),
                    "{text}: short words are shown"
                );
            }
        }
        let header = hiding(&|redactor| redactor.hide_header("Bearer 0123456789"));
        assert!(header.quoted("the bearer token is unknown", 80).is_some(), "a scheme is no secret");
        let parted = hiding(&|redactor| redactor.hide_header("user:one;two and three"));
        assert_eq!(parted.quoted("one;two is revoked", 80), None, "a secret may contain another separator");
    }

    #[test]
    fn nothing_is_quoted_of_a_text_with_a_secret_in_any_encoding() {
        let mut redactor = Redactor::default();
        for secret in ["p+w/q", "42", "0123456789abcdef-and-more", "twelve-of-sixtee"] {
            redactor.hide(Zeroizing::new(secret.to_owned()));
        }
        for hit in [
            "no p+w/q here",
            "no p%2bw%2fq here",
            "no P%2BW%2FQ here",
            "no cCt3L3E= here",
            "p\\u002bw/q",
            "key 42?",
            "cut 0123456789abcdef-a",
            "cut 89abcdef-and-more",
            "MDEyMzQ1Njc4OWFiY2RlZi1hbmQ",
            "cut twelve-of-si",
        ] {
            assert_eq!(redactor.quoted(hit, 80), None, "{hit}");
        }
        for miss in ["no such client", "attempt 142 of 421", "scope api:read", ""] {
            assert_eq!(redactor.quoted(miss, 80).as_deref(), Some(miss));
        }
        assert_eq!(Redactor::default().quoted("abcdef", 3).as_deref(), Some("abc..."));
    }

    #[test]
    fn a_secret_whose_end_was_cut_off_is_found() {
        let mut redactor = Redactor::default();
        redactor.hide(Zeroizing::new("0123456789abcdef-and-more".to_owned()));
        assert_eq!(redactor.clean("`0123456789abcdef-an`, `x`", 80), "`[redacted]`, `x`");
        assert_eq!(redactor.clean("`0123456789abcde`", 80), "`0123456789abcde`", "too short to say much");
    }
}
