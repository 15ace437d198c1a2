//! Finds the one private key, or the first certificate, in a PEM text (RFC 7468).
//!
//! Written for this crate, because other parsers do not wipe the buffers in which they collect Base64, and because
//! an error must give the reason if a text has no usable key. An error is a fixed text. Therefore no error can
//! quote the input.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

const NO_SECTION: &str =
    "holds no PEM: it needs a line `-----BEGIN PRIVATE KEY-----`; give the text of the file, not its name";
const JSON: &str =
    "holds JSON, not PEM: convert a JWK to PEM, or take the PEM text out of the field `private_key`";
const BINARY: &str =
    "holds DER, not PEM: convert it with `openssl pkey -inform DER -in key.der -out key.pem`";
const LINES_LOST: &str = r"has lost its line breaks: each BEGIN and END line must stand alone; a variable or a settings file may hold `\n` as two characters, which must become line breaks";
const NO_END: &str = "has a section without its END line: the text is cut off";
const NO_KEY: &str = "holds no private key: it needs a section `PRIVATE KEY`";
const ONLY_PUBLIC: &str = "holds no private key, only a public key or a certificate: give the file that was made with it, which has a section `PRIVATE KEY`";
const TWO_KEYS: &str = "holds two private keys: leave the one that signs";
const ENCRYPTED: &str = "is encrypted, and no setting takes its password: decrypt it with `openssl pkey -in key.pem -out plain.pem`, and keep the result readable for this service alone";
const OPENSSH: &str = "has the form of OpenSSH, which is not supported: convert an RSA or EC key with `ssh-keygen -p -m PKCS8 -f key`, or make a key with `openssl genpkey -algorithm ed25519`";
const OTHER_FORM: &str =
    "has a form that is not supported: convert it to PKCS#8 with `openssl pkey -in key.pem -out pkcs8.pem`";
const NOT_BASE64: &str = "is damaged: the text between BEGIN and END is not Base64";
const NO_CERTIFICATE: &str = "holds no certificate in PEM: it needs a section `CERTIFICATE`; convert DER with `openssl x509 -inform DER -in certificate.der`";

/// The contents of a section's DER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `PRIVATE KEY` (RFC 5208, RFC 5958).
    Pkcs8,
    /// `RSA PRIVATE KEY` (RFC 8017 appendix A.1.2).
    Pkcs1,
    /// `EC PRIVATE KEY` (RFC 5915).
    Sec1,
}

/// The DER of the only private key in `text`. Other sections are ignored.
pub(super) fn private_key(text: &[u8]) -> Result<(Form, Zeroizing<Vec<u8>>), &'static str> {
    let sections = sections(text)?;
    if sections.is_empty() {
        return Err(without_sections(text));
    }
    let mut keys = sections.iter().filter(|section| section.label.ends_with(b"PRIVATE KEY"));
    let Some(key) = keys.next() else {
        let public = |section: &Section<'_>| {
            section.label.ends_with(b"PUBLIC KEY") || section.label.starts_with(b"CERTIFICATE")
        };
        return Err(if sections.iter().any(public) { ONLY_PUBLIC } else { NO_KEY });
    };
    if keys.next().is_some() {
        return Err(TWO_KEYS);
    }
    if key.is_encrypted() {
        return Err(ENCRYPTED);
    }
    let form = match key.label {
        b"PRIVATE KEY" => Form::Pkcs8,
        b"RSA PRIVATE KEY" => Form::Pkcs1,
        b"EC PRIVATE KEY" => Form::Sec1,
        b"OPENSSH PRIVATE KEY" => return Err(OPENSSH),
        _ => return Err(OTHER_FORM),
    };
    Ok((form, key.decode()?))
}

/// The DER of the first certificate in `text`.
pub(super) fn certificate(text: &[u8]) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let sections = sections(text)?;
    let certificate = sections.iter().find(|section| section.label == b"CERTIFICATE");
    certificate.ok_or(NO_CERTIFICATE)?.decode()
}

/// The text between two lines `BEGIN` and `END`. It borrows the text, and holds no copy of a key.
struct Section<'a> {
    label: &'a [u8],
    lines: Vec<&'a [u8]>,
}

impl Section<'_> {
    /// PKCS#8's own encryption (RFC 5958 section 3), or the older encryption with a header (RFC 1421).
    fn is_encrypted(&self) -> bool {
        let announces = |line: &&[u8]| line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED");
        self.label == b"ENCRYPTED PRIVATE KEY" || self.lines.iter().any(announces)
    }

    /// Both buffers have their full size from the beginning. Therefore neither moves nor leaves a copy behind.
    fn decode(&self) -> Result<Zeroizing<Vec<u8>>, &'static str> {
        // Only a header has a colon.
        let body = || self.lines.iter().filter(|line| !line.contains(&b':'));
        let mut text = Zeroizing::new(Vec::with_capacity(body().map(|line| line.len()).sum()));
        body().for_each(|line| text.extend_from_slice(line));
        let mut der = Zeroizing::new(vec![0; base64::decoded_len_estimate(text.len())]);
        // The error of base64 would quote a character.
        let length = STANDARD.decode_slice(&*text, &mut der).map_err(|_| NOT_BASE64)?;
        der.truncate(length);
        Ok(der)
    }
}

fn sections(text: &[u8]) -> Result<Vec<Section<'_>>, &'static str> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut sections = Vec::new();
    let mut open: Option<Section<'_>> = None;
    for line in text.split(|byte| matches!(byte, b'\n' | b'\r')).map(<[u8]>::trim_ascii) {
        if line.starts_with(b"-----BEGIN ") {
            if open.is_some() {
                return Err(NO_END);
            }
            let label = label(line, b"-----BEGIN ").ok_or(LINES_LOST)?;
            open = Some(Section { label, lines: Vec::new() });
        } else if line.starts_with(b"-----END ") {
            // An END line without a BEGIN line does not affect the sections around it.
            let Some(section) = open.take() else { continue };
            if label(line, b"-----END ") != Some(section.label) {
                return Err(NO_END);
            }
            sections.push(section);
        } else if let Some(section) = &mut open {
            section.lines.push(line);
        }
    }
    if open.is_some() { Err(NO_END) } else { Ok(sections) }
}

fn label<'a>(line: &'a [u8], start: &[u8]) -> Option<&'a [u8]> {
    let label = line.strip_prefix(start)?.strip_suffix(b"-----")?;
    let is_word = |byte: &u8| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b' ');
    label.iter().all(is_word).then_some(label)
}

/// The reason why a text has no section: users often give the file's name, or the key in another form.
fn without_sections(text: &[u8]) -> &'static str {
    match text.trim_ascii_start() {
        [b'{', ..] => JSON,
        // A sequence, and its version 0. A text contains no zero byte.
        [0x30, ..] if text.contains(&0) => BINARY,
        text if text.windows(10).any(|part| part == b"-----BEGIN") => LINES_LOST,
        _ => NO_SECTION,
    }
}
