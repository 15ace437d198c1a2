//! The texts that a reader could decode from a text.

use std::borrow::Cow;

/// Longer texts are cut. No log shows so long an explanation, and a decoded text may be longer than its source.
const LONGEST: usize = 2 * 1024;
/// A decoded text that is longer than this is not checked.
const LONGEST_READING: usize = 16 * 1024;
/// The maximum nesting depth of encodings.
const DEPTH: usize = 4;
/// The maximum number of decoded texts.
const MOST: usize = 128;
/// A shorter run of letters is a word, not an encoding.
const SHORTEST_RUN: usize = 6;

/// `text`, and each text that results from decoding it repeatedly: percent and form encoding, HTML entities, JSON
/// escapes, base64, hexadecimal.
///
/// `None` if there are more than can be checked.
pub(super) fn readings(text: &str) -> Option<Vec<String>> {
    let end = text.char_indices().map(|(at, _)| at).find(|&at| at >= LONGEST).unwrap_or(text.len());
    let mut found = vec![text[..end].to_owned()];
    let mut from = 0;
    for _ in 0..DEPTH {
        let to = found.len();
        for at in from..to {
            for decode in DECODERS {
                let Cow::Owned(decoded) = decode(&found[at]) else { continue };
                if decoded.len() > LONGEST_READING {
                    return None;
                }
                if !found.contains(&decoded) {
                    found.push(decoded);
                }
                if found.len() > MOST {
                    return None;
                }
            }
        }
        from = to;
    }
    Some(found)
}

/// Each returns its input, borrowed, if there is nothing to decode.
const DECODERS: &[fn(&str) -> Cow<'_, str>] = &[percent, plus, entities, escapes, base64, hex];

/// RFC 3986 section 2.1.
fn percent(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let (mut out, mut at, mut any) = (Vec::with_capacity(bytes.len()), 0, false);
    while at < bytes.len() {
        let pair = (bytes[at] == b'%').then(|| bytes.get(at + 1..at + 3)).flatten().and_then(hex_byte);
        any |= pair.is_some();
        out.push(pair.unwrap_or(bytes[at]));
        at += if pair.is_some() { 3 } else { 1 };
    }
    if any { String::from_utf8_lossy(&out).into_owned().into() } else { text.into() }
}

/// A space in a form.
fn plus(text: &str) -> Cow<'_, str> {
    if text.contains('+') { text.replace('+', " ").into() } else { text.into() }
}

/// HTML's names for characters of ASCII, and for the space.
const ENTITIES: &[(&str, char)] = &[
    ("amp", '&'),
    ("AMP", '&'),
    ("lt", '<'),
    ("LT", '<'),
    ("gt", '>'),
    ("GT", '>'),
    ("quot", '"'),
    ("QUOT", '"'),
    ("apos", '\''),
    ("nbsp", ' '),
    ("plus", '+'),
    ("sol", '/'),
    ("equals", '='),
    ("excl", '!'),
    ("num", '#'),
    ("dollar", '$'),
    ("percnt", '%'),
    ("lpar", '('),
    ("rpar", ')'),
    ("ast", '*'),
    ("midast", '*'),
    ("comma", ','),
    ("hyphen", '-'),
    ("dash", '-'),
    ("period", '.'),
    ("colon", ':'),
    ("semi", ';'),
    ("quest", '?'),
    ("commat", '@'),
    ("lbrack", '['),
    ("lsqb", '['),
    ("bsol", '\\'),
    ("rbrack", ']'),
    ("rsqb", ']'),
    ("Hat", '^'),
    ("lowbar", '_'),
    ("UnderBar", '_'),
    ("grave", '`'),
    ("lbrace", '{'),
    ("lcub", '{'),
    ("vert", '|'),
    ("verbar", '|'),
    ("rbrace", '}'),
    ("rcub", '}'),
    ("Tab", '\t'),
    ("NewLine", '\n'),
];

/// `&amp;`, `&#43;`, `&#x2b;`; a number also without the semicolon, as browsers read it.
fn entities(text: &str) -> Cow<'_, str> {
    replace(text, '&', |rest| {
        if let Some(number) = rest.strip_prefix('#') {
            let digits = number.strip_prefix(['x', 'X']);
            let (radix, number) = digits.map_or((10, number), |digits| (16, digits));
            let end = number.find(|char: char| !char.is_digit(radix)).unwrap_or(number.len());
            let char = char::from_u32(u32::from_str_radix(&number[..end], radix).ok()?)?;
            let is_closed = number[end..].starts_with(';');
            return Some((char, rest.len() - number.len() + end + usize::from(is_closed)));
        }
        let (name, char) = ENTITIES
            .iter()
            .find(|(name, _)| rest.strip_prefix(name).is_some_and(|rest| rest.starts_with(';')))?;
        Some((*char, name.len() + 1))
    })
}

/// `\u002b`, `\x2b`, `\/`.
fn escapes(text: &str) -> Cow<'_, str> {
    replace(text, '\\', |rest| {
        let first = rest.chars().next()?;
        let digits = match first {
            'u' => return utf_16(rest),
            'x' => 2,
            'n' => return Some(('\n', 1)),
            'r' => return Some(('\r', 1)),
            't' => return Some(('\t', 1)),
            _ if first.is_ascii_punctuation() => return Some((first, 1)),
            _ => return None,
        };
        let code = u32::from_str_radix(rest.get(1..=digits)?, 16).ok()?;
        Some((char::from_u32(code)?, digits + 1))
    })
}

/// The character after the mark of `\u002b`, and the length of its code. A character beyond the first plane needs
/// two codes (RFC 8259 section 7).
fn utf_16(rest: &str) -> Option<(char, usize)> {
    let unit = |text: &str| u16::from_str_radix(text.strip_prefix('u')?.get(..4)?, 16).ok();
    let first = unit(rest)?;
    let second = rest.get(5..).and_then(|rest| unit(rest.strip_prefix('\\')?));
    let char = char::decode_utf16([first].into_iter().chain(second)).next()?.ok()?;
    Some((char, if char.len_utf16() == 2 { 11 } else { 5 }))
}

/// Both alphabets of RFC 4648, with padding or without.
fn base64(text: &str) -> Cow<'_, str> {
    use ::base64::Engine as _;
    use ::base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
    use ::base64::{alphabet::STANDARD, engine::DecodePaddingMode};

    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    runs(
        text,
        |char| char.is_ascii_alphanumeric() || "+/-_".contains(char),
        |run| {
            let standard = run.replace('-', "+").replace('_', "/");
            from_each(&standard, 4, |rest| {
                // Three characters after whole groups hold no further whole byte.
                let whole = if rest.len() % 4 == 1 { &rest[..rest.len() - 1] } else { rest };
                LENIENT.decode(whole).ok()
            })
        },
    )
}

fn hex(text: &str) -> Cow<'_, str> {
    runs(
        text,
        |char| char.is_ascii_hexdigit(),
        |run| from_each(run, 2, |rest| rest.as_bytes().chunks_exact(2).map(hex_byte).collect()),
    )
}

/// The decodings of a run of ASCII from each of its first characters on: it is not known where in the run the
/// encoding begins, as in `login/cCt3L3E`.
fn from_each(run: &str, group: usize, decode: impl Fn(&str) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let decoded: Option<Vec<_>> = (0..group).map(|start| decode(run.get(start..)?)).collect();
    Some(decoded?.join(&b' '))
}

fn hex_byte(pair: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (high, low) = (digit(*pair.first()?)?, digit(*pair.get(1)?)?);
    u8::try_from(high * 16 + low).ok()
}

/// Replaces the text after each `mark`. `read` gets the text after the mark, and returns the decoded character and
/// the number of bytes.
fn replace(text: &str, mark: char, read: impl Fn(&str) -> Option<(char, usize)>) -> Cow<'_, str> {
    let (mut out, mut rest, mut any) = (String::new(), text, false);
    while let Some(at) = rest.find(mark) {
        let after = &rest[at + mark.len_utf8()..];
        out.push_str(&rest[..at]);
        rest = if let Some((char, length)) = read(after) {
            any = true;
            out.push(char);
            &after[length..]
        } else {
            out.push(mark);
            after
        };
    }
    out.push_str(rest);
    if any { out.into() } else { text.into() }
}

/// Replaces each run of characters that can be decoded.
fn runs(
    text: &str,
    belongs: impl Fn(char) -> bool,
    decode: impl Fn(&str) -> Option<Vec<u8>>,
) -> Cow<'_, str> {
    let (mut out, mut rest, mut any) = (String::new(), text, false);
    while let Some(start) = rest.find(&belongs) {
        let end = rest[start..].find(|char| !belongs(char)).map_or(rest.len(), |length| start + length);
        out.push_str(&rest[..start]);
        let run = &rest[start..end];
        match (run.len() >= SHORTEST_RUN).then(|| decode(run)).flatten() {
            Some(bytes) => {
                any = true;
                out.push_str(&String::from_utf8_lossy(&bytes));
            }
            None => out.push_str(run),
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    if any { out.into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_encoding_is_undone_also_one_inside_the_other() {
        for (text, inside) in [
            ("client p%2Bw%2fq is unknown", "p+w/q"),
            ("client p+w is unknown", "p w"),
            ("p&#43;w&sol;q&amp;", "p+w/q&"),
            ("p&commat;w&semi;q&lowbar;&NewLine;", "p@w;q_\n"),
            ("p&#x0000002B;w&#47q", "p+w/q"),
            (r"p\u002bw\/q", "p+w/q"),
            (r"p\uD83D\uDE00w\u0041", "p\u{1f600}wA"),
            ("Basic aWQ6cCt3L3E=", "id:p+w/q"),
            ("Basic aWQ6cCt3L3E", "id:p+w/q"),
            ("cD8_Pj4-Pw", "p??>>>?"),
            ("702b772f71", "p+w/q"),
            ("p%252Bw%252fq", "p+w/q"),
            ("aWQ6cCUyQnclMkZx", "id:p+w/q"),
            ("aWQ6cCt3L3EtYW5kLW1v!", "id:p+w/q-and-mo"),
            ("login/aWQ6cCt3L3E=", "id:p+w/q"),
            ("xaWQ6cCt3L3E", "id:p+w/q"),
            ("a702b772f71", "p+w/q"),
        ] {
            let readings = readings(text).unwrap();
            assert!(readings.iter().any(|reading| reading.contains(inside)), "{text}: {readings:?}");
        }
        for odd in
            ["100 %", "%", "%zz", "&", "&;", "&#x110000;", "\\", "\\u12", "\\ud83d", "\\ué", "ä%é&ö\\ü"]
        {
            assert_eq!(readings(odd).unwrap()[0], odd);
        }
    }
}
