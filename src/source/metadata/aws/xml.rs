//! The elements in an answer of AWS' query protocol.

use std::borrow::Cow;

/// The text of the first element of this name without attributes. The element must be complete.
pub(crate) fn element<'a>(text: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inside, _) = rest.split_once(&format!("</{name}>"))?;
    if inside.contains('<') {
        return None;
    }
    Some(plain(inside.trim()))
}

/// The text with the five entities of XML decoded.
fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut text = text.to_owned();
    // The ampersand comes last, so that its result is not decoded again.
    for (entity, char) in [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")] {
        text = text.replace(entity, char);
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_found_by_its_name_and_only_whole() {
        let text = "<A xmlns=\"x\"><B>\n one &amp;lt; two </B><C><D>three</D></C><E>cut";
        assert_eq!(element(text, "B").unwrap(), "one &lt; two");
        assert_eq!(element(text, "D").unwrap(), "three");
        for name in ["A", "C", "E", "F", "B>"] {
            assert!(element(text, name).is_none(), "{name}");
        }
    }
}
