//! The part of DER (ITU-T X.690) that is needed to name a key's type and to find the public key in a certificate.
//! aws-lc checks whether a key is valid.

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
/// The tag of a structure's first optional field, if the structure numbers its fields.
pub(super) const FIELD_0: u8 = 0xa0;

/// Reads one value after the other. `None`: there is another value, or none, or it is cut off.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(der: &'a [u8]) -> Self {
        Self(der)
    }

    /// The contents of the next value, which must have this tag. Otherwise nothing is read.
    pub(super) fn read(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.element(tag).map(|(contents, _)| contents)
    }

    /// The next value with its tag and length.
    pub(super) fn read_whole(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.element(tag).map(|(_, whole)| whole)
    }

    /// The values inside the next one.
    pub(super) fn enter(&mut self, tag: u8) -> Option<Self> {
        self.read(tag).map(Self)
    }

    fn element(&mut self, tag: u8) -> Option<(&'a [u8], &'a [u8])> {
        let (&found, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        if found != tag {
            return None;
        }
        // X.690 section 8.1.3: the length itself below 128, else the number of bytes that it takes.
        let mut length = usize::from(first);
        if first >= 0x80 {
            let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
            if bytes.is_empty() || bytes.len() > 4 {
                return None;
            }
            length = bytes.iter().try_fold(0_usize, |sum, byte| {
                sum.checked_mul(256).and_then(|sum| sum.checked_add(usize::from(*byte)))
            })?;
            rest = after;
        }
        let (contents, after) = rest.split_at_checked(length)?;
        let (whole, _) = self.0.split_at_checked(self.0.len() - after.len())?;
        self.0 = after;
        Some((contents, whole))
    }
}

/// A positive integer without the zero that keeps it positive.
pub(super) fn unsigned(integer: &[u8]) -> &[u8] {
    let zeros = integer.iter().take_while(|byte| **byte == 0).count();
    integer.get(zeros..).unwrap_or_default()
}

/// The `SubjectPublicKeyInfo` of a certificate, whole (RFC 5280 section 4.1).
pub(super) fn public_key_of(certificate: &[u8]) -> Option<&[u8]> {
    let mut fields = Reader::new(certificate).enter(SEQUENCE)?.enter(SEQUENCE)?;
    let _version = fields.read(FIELD_0);
    let _serial = fields.read(INTEGER)?;
    for _ in ["signature", "issuer", "validity", "subject"] {
        fields.read(SEQUENCE)?;
    }
    fields.read_whole(SEQUENCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_with_short_and_long_lengths() {
        let mut reader = Reader::new(&[2, 1, 7, 4, 0x81, 2, 8, 9, 4, 0x82, 0, 1, 5]);
        assert_eq!(reader.read(OCTET_STRING), None, "another tag");
        assert_eq!(reader.read(INTEGER), Some(&[7][..]));
        assert_eq!(reader.read_whole(OCTET_STRING), Some(&[4, 0x81, 2, 8, 9][..]));
        assert_eq!(reader.read(OCTET_STRING), Some(&[5][..]));
        assert_eq!(reader.read(OCTET_STRING), None, "the end");
    }

    #[test]
    fn a_value_that_is_cut_off_is_none() {
        let huge = [4, 0x89, 1, 2, 3, 4, 5, 6, 7, 8, 9];
        let mut cases: Vec<&[u8]> = vec![&[], &[4], &[4, 1], &[4, 0x80], &[4, 0x82, 1], &huge];
        cases.push(&[4, 0x84, 0xff, 0xff, 0xff, 0xff]);
        for cut in cases {
            assert_eq!(Reader::new(cut).read(OCTET_STRING), None, "{cut:?}");
        }
    }

    #[test]
    fn an_integer_loses_its_zeros() {
        for (integer, value) in [(&[0, 0x80][..], &[0x80][..]), (&[1, 0], &[1, 0]), (&[0], &[]), (&[], &[])] {
            assert_eq!(unsigned(integer), value);
        }
    }
}
